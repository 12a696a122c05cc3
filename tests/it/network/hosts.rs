//! Stores and clients on the hosts of a simulated network.

use std::cell::Cell;
use std::collections::HashSet;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{self, Call, Store, Validation};
use agntcy_dir_stream::{ClientBuilder, Record};
use turmoil::Sim;
use turmoil::net::{TcpListener, TcpStream};

use super::outages::{Dial, assert_no_storm};
use super::settings::Settings;
use super::trace::{Digest, Trace};
use super::trouble::{Trouble, What};
use crate::support::records::cid;

/// The hosts that have no store, as far as a run needs them.
pub(super) const CLIENT: &str = "client";
pub(super) const WRITER: &str = "writer";
const PORT: u16 = 8888;

/// How much time passes on each host before another has its turn.
const TICK: Duration = Duration::from_millis(20);

/// How long a run may go on once all is well again.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// What a host does.
pub(super) type Job = Pin<Box<dyn Future<Output = ()>>>;

fn name(node: usize) -> String {
    format!("node-{node}")
}

/// A directory that several nodes serve, and the network around it.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) settings: Arc<Settings>,
    pub(super) store: Store,
    pub(super) trace: Trace,
    /// The records that have reached a node, in whatever push.
    arrived: Arc<Mutex<HashSet<Cid>>>,
    dials: Arc<Mutex<Vec<Dial>>>,
}

impl Network {
    pub(super) fn new(settings: Settings, store: server::Builder) -> Self {
        let trace = Trace::new();
        let arrived = Arc::new(Mutex::new(HashSet::new()));
        let noting = trace.clone();
        let arriving = Arc::clone(&arrived);
        let store = store
            .validate(move |record: &Record| {
                arriving.lock().unwrap().insert(cid(record));
                Validation::Pass
            })
            .on_call_end(move |call: &Call| {
                let Call {
                    method,
                    number,
                    requests,
                    answers,
                    end,
                    ..
                } = call;
                noting.note(format_args!(
                    "{method:?} {number}: {requests} requests, {answers} answers, {end:?}"
                ));
            });
        // What the crate draws is drawn from the seed, too.
        fastrand::seed(settings.seed);
        Self {
            settings: Arc::new(settings),
            store: store.build(),
            trace,
            arrived,
            dials: Arc::default(),
        }
    }

    /// Whether a push of this record has reached a node.
    pub(super) fn has_arrived(&self, cid: &Cid) -> bool {
        self.arrived.lock().unwrap().contains(cid)
    }

    /// A client of all nodes, to be used on this host.
    pub(super) fn client(
        &self,
        host: &'static str,
        with: impl Fn(ClientBuilder) -> ClientBuilder,
    ) -> Client {
        let nodes = (0..self.settings.nodes).map(|node| {
            let this = self.clone();
            let builder = Client::builder(format!("http://{}:{PORT}", name(node)))
                .connector(move |server| this.clone().dial(host, node, server))
                .connect_timeout(self.settings.connect_timeout)
                .connections(self.settings.connections);
            with(builder).connect_lazy().expect("a URL")
        });
        nodes.reduce(Client::with_nodes_of).expect("a node")
    }

    async fn dial(
        self,
        host: &'static str,
        node: usize,
        server: String,
    ) -> std::io::Result<TcpStream> {
        let at = turmoil::sim_elapsed().expect("on a host");
        self.dials.lock().unwrap().push(Dial { host, node, at });
        self.trace.note(format_args!("{host} dials node {node}"));
        let connected = TcpStream::connect(server).await;
        self.trace.note(format_args!(
            "{host}, node {node}: {:?}",
            connected.as_ref().map(drop).map_err(std::io::Error::kind)
        ));
        connected
    }

    /// Runs these jobs on their hosts, while things go wrong, and until they are over. Then no server may have been asked too
    /// often, and they have ended soon after all was well again.
    pub(super) fn run<const HOSTS: usize>(&self, jobs: [(&'static str, Job); HOSTS]) -> Digest {
        let settings = &self.settings;
        let mut sim = turmoil::Builder::new()
            .rng_seed(settings.seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::MAX)
            .min_message_latency(settings.latency.0)
            .max_message_latency(settings.latency.1)
            .tcp_capacity(1 << 16)
            .build();
        let are_up: Vec<_> = (0..settings.nodes)
            .map(|_| Rc::new(Cell::new(true)))
            .collect();
        for (node, is_up) in are_up.iter().enumerate() {
            let (store, is_up) = (self.store.clone(), Rc::clone(is_up));
            sim.host(name(node), move || serve(store.clone(), is_up.get()));
        }
        let clients = jobs.each_ref().map(|(host, _)| *host);
        for (host, job) in jobs {
            sim.client(host, async move {
                job.await;
                Ok(())
            });
        }
        let mut begins = settings.troubles.clone();
        begins.sort_by_key(|trouble| trouble.begins);
        let mut ends = begins.clone();
        ends.sort_by_key(|trouble| trouble.ends);
        let (mut begins, mut ends) = (begins.into_iter().peekable(), ends.into_iter().peekable());
        loop {
            let now = sim.elapsed();
            while let Some(trouble) = ends.next_if(|trouble| trouble.ends <= now) {
                self.end(&mut sim, &clients, &trouble, &are_up[trouble.node]);
            }
            while let Some(trouble) = begins.next_if(|trouble| trouble.begins <= now) {
                self.begin(&mut sim, &clients, &trouble, &are_up[trouble.node]);
            }
            match sim.step() {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(
                now < settings.well_at() + SETTLES_WITHIN,
                "{now:?}: it goes on, though all is well since {:?}",
                settings.well_at()
            );
        }
        let digest = self.trace.end();
        assert_no_storm(&self.dials.lock().unwrap(), &self.store.calls(), settings);
        digest
    }

    fn begin(&self, sim: &mut Sim<'_>, clients: &[&str], trouble: &Trouble, is_up: &Cell<bool>) {
        self.trace
            .note(format_args!("{:?} {trouble} begins", sim.elapsed()));
        let node = name(trouble.node);
        for client in clients.iter().copied() {
            match trouble.what {
                What::Partition | What::PowerCut => sim.partition(client, &*node),
                What::Deaf => sim.partition_oneway(client, &*node),
                What::Mute => sim.partition_oneway(&*node, client),
                What::Hold => sim.hold(client, &*node),
                What::Slow(latency) => sim.set_link_latency(client, &*node, latency),
                What::Loss(of_thousand) => {
                    sim.set_link_fail_rate(client, &*node, f64::from(of_thousand) / 1000.0);
                }
                What::Killed => {}
            }
        }
        match trouble.what {
            What::Killed => {
                is_up.set(false);
                sim.crash(&*node);
                // The machine is there, and refuses.
                sim.bounce(&*node);
            }
            // Its last words are lost.
            What::PowerCut => sim.crash(&*node),
            _ => {}
        }
        if self.settings.forgets && matches!(trouble.what, What::Killed | What::PowerCut) {
            self.store.clear();
        }
    }

    fn end(&self, sim: &mut Sim<'_>, clients: &[&str], trouble: &Trouble, is_up: &Cell<bool>) {
        self.trace
            .note(format_args!("{:?} {trouble} ends", sim.elapsed()));
        let node = name(trouble.node);
        for client in clients.iter().copied() {
            match trouble.what {
                What::Partition | What::PowerCut => sim.repair(client, &*node),
                What::Deaf => sim.repair_oneway(client, &*node),
                What::Mute => sim.repair_oneway(&*node, client),
                What::Hold => sim.release(client, &*node),
                What::Slow(_) => {
                    let (least, most) = self.settings.latency;
                    sim.set_link_latency(client, &*node, least);
                    sim.set_link_max_message_latency(client, &*node, most);
                }
                What::Loss(_) => {
                    sim.set_link_fail_rate(client, &*node, 0.0);
                    sim.repair(client, &*node);
                }
                What::Killed => {}
            }
        }
        if matches!(trouble.what, What::Killed | What::PowerCut) {
            is_up.set(true);
            sim.bounce(&*node);
        }
    }
}

async fn serve(store: Store, is_up: bool) -> turmoil::Result {
    if !is_up {
        std::future::pending::<()>().await;
    }
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(store.serve(socket));
    }
}

//! The nodes of a client as an adapter sees them: where the next call may go, and whether all are
//! away.

mod admission;
mod apart;
mod canary;
mod hints;
mod learnt;
mod proof;

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use tracing::warn;

use self::admission::Admission;
pub(crate) use self::admission::{Cause, Incident, shortest_wait};
pub(crate) use self::apart::{Apart, Deletes};
pub(crate) use self::canary::{Canary, Moment, Success};
use self::hints::Pushback;
pub(crate) use self::learnt::Learnt;
pub(crate) use self::proof::Methods;
use self::proof::Proof;
use super::server_stream::ServerStream;
use super::tick::Tick;
use super::waited::Waited;
use crate::LOG;
use crate::breaker::{Permit, Probe};
use crate::cid::Cid;
use crate::client::{Client, Link};
use crate::error::in_words;
use crate::later::later;
use crate::operation::Operation;
use crate::outage::Outage;
use crate::retry::Retry;
use crate::verdict::{self, Verdict};

/// How many items a node may fail at in a row before it is asked for one that has succeeded.
const IN_DOUBT: u32 = 2;

pub(crate) struct Nodes {
    retry: Retry,
    nodes: Vec<Node>,
    /// Where to begin among equals, so that the adapters of many processes spread.
    first: usize,
    /// Since when all breakers are open and nothing goes on.
    open_since: Option<Waited>,
    last_fault: Option<Arc<Status>>,
}

struct Node {
    admission: Admission,
    connections: Vec<Link>,
    methods: Arc<Methods>,
}

/// A way to a server: which node, and which of the connections to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) node: usize,
    pub(crate) connection: usize,
}

/// The call that has met a fault, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) route: Route,
    /// The last incident when it had its latest answer, or was opened.
    pub(crate) seen: Incident,
    /// Whether it had answers.
    pub(crate) worked: bool,
}

/// How much a connection has to do already; `None`: it must not have another call now.
pub(crate) type Load = Option<usize>;

impl Nodes {
    /// The nodes as an operation `O` sees them: with what they have shown of its method.
    pub(crate) fn of<O: Operation>(client: &Client, retry: Retry) -> Self {
        Self::new(client, retry, O::NAME, |methods| {
            let known = methods.of::<O>();
            (Arc::clone(&known.proof), Arc::clone(&known.outage))
        })
    }

    /// The same for a method `M` with a stream of answers.
    pub(crate) fn of_stream<M: ServerStream>(client: &Client, retry: Retry) -> Self {
        Self::new(client, retry, M::NAME, |methods| {
            let known = methods.of_stream::<M>();
            (Arc::clone(&known.proof), Arc::clone(&known.outage))
        })
    }

    fn new(
        client: &Client,
        retry: Retry,
        name: &'static str,
        known: impl Fn(&Methods) -> (Arc<Proof>, Arc<Outage>),
    ) -> Self {
        let nodes: Vec<Node> = client
            .nodes()
            .iter()
            .map(|node| Node {
                admission: {
                    let (proof, outage) = known(&node.methods);
                    Admission::new(name, retry.clone(), node, proof, outage)
                },
                connections: node.connections.clone(),
                methods: Arc::clone(&node.methods),
            })
            .collect();
        Self {
            first: fastrand::usize(..nodes.len()),
            retry,
            nodes,
            open_since: None,
            last_fault: None,
        }
    }

    pub(crate) fn retry(&self) -> &Retry {
        &self.retry
    }

    pub(crate) fn node(&mut self, node: usize) -> &mut Admission {
        &mut self.nodes[node].admission
    }

    /// Until when nothing is to be sent again to a node, if its server has failed.
    pub(crate) fn held_until(&self, node: usize, now: Instant) -> Option<Instant> {
        self.nodes[node].admission.held_until(now)
    }

    /// What a node is called in logs.
    pub(crate) fn name(&self, node: usize) -> &str {
        self.nodes[node].admission.breaker().node()
    }

    /// What the nodes are called in logs.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let nodes = self.nodes.iter();
        nodes.map(|node| &**node.admission.breaker().node())
    }

    /// Tells the recorder of metrics whether circuits are open, before any of them changes.
    pub(crate) fn tell_circuits(&self) {
        for node in &self.nodes {
            node.admission.breaker().tell();
        }
    }

    /// When the latest item was sent that has succeeded on any node, for whichever adapter of the client. Nodes for
    /// which that ends an outage recover.
    pub(crate) fn learn(&mut self) -> Tick {
        let nodes = self.nodes.iter_mut();
        nodes
            .map(|node| node.admission.learn())
            .max()
            .unwrap_or(Tick::NEVER)
    }

    /// What keeps deletes apart from what is pushed again. All nodes have the same records.
    pub(crate) fn apart(&self) -> &Arc<Apart> {
        &self.nodes[0].methods.apart
    }

    /// The record of this CID is about to be deleted.
    pub(crate) fn forget(&self, cid: &Cid) {
        for node in &self.nodes {
            node.methods.forget(cid);
        }
    }

    /// Whether this node has failed at several items in a row, so that it has to show whether it works.
    pub(crate) fn is_doubtful(&self, node: usize) -> bool {
        self.nodes[node].admission.failures() >= IN_DOUBT
    }

    /// Whether any node has.
    pub(crate) fn has_doubtful(&self) -> bool {
        (0..self.nodes.len()).any(|node| self.is_doubtful(node))
    }

    pub(crate) fn link(&self, route: Route) -> &Link {
        &self.nodes[route.node].connections[route.connection]
    }

    /// Asks for a call: on the least loaded connection of the least loaded node that may have one.
    /// While no other call runs, a node that was set aside comes last: its probe would keep all
    /// waiting. Also returns when a node that may not have one now might, as far as that is known.
    pub(crate) fn permit(
        &self,
        cx: &Context<'_>,
        now: Instant,
        others_run: bool,
        load: impl Fn(Route) -> Load,
    ) -> (Option<(Route, Option<Probe>)>, Option<Instant>) {
        let mut nodes: Vec<(usize, Route)> = Vec::with_capacity(self.nodes.len());
        for node in self.rotation() {
            let connections = 0..self.nodes[node].connections.len();
            let routes = connections.map(|connection| Route { node, connection });
            let loads: Vec<_> = routes.map(|route| (load(route), route)).collect();
            let total = loads.iter().filter_map(|(load, _)| *load).sum();
            let free = loads.into_iter().filter(|(load, _)| load.is_some());
            if let Some((_, route)) = free.min_by_key(|(load, _)| *load) {
                nodes.push((total, route));
            }
        }
        let is_aside = |node: usize| self.nodes[node].admission.breaker().is_open();
        nodes.sort_by_key(|(total, route)| (!others_run && is_aside(route.node), *total));
        let mut opens = None;
        for (_, route) in nodes {
            match self.nodes[route.node].admission.permit(cx, now) {
                Permit::Granted => return (Some((route, None)), opens),
                Permit::Probe(probe) => return (Some((route, Some(probe))), opens),
                Permit::Denied(until) => opens = opens.into_iter().chain(until).min(),
            }
        }
        (None, opens)
    }

    fn rotation(&self) -> impl Iterator<Item = usize> {
        let all = self.nodes.len();
        (0..all).map(move |step| (self.first + step) % all)
    }

    /// The node with the most calls, if another node may have a call and has at least two fewer.
    pub(crate) fn overloaded(
        &self,
        now: Instant,
        calls: impl Fn(usize) -> usize,
        has_room: impl Fn(Route) -> bool,
    ) -> Option<usize> {
        if self.nodes.len() == 1 {
            return None;
        }
        let open = self
            .rotation()
            .filter(|node| self.nodes[*node].admission.may_open(now))
            .filter(|node| {
                let node = *node;
                let mut connections = 0..self.nodes[node].connections.len();
                connections.any(|connection| has_room(Route { node, connection }))
            });
        let least = open.min_by_key(|node| calls(*node))?;
        let most = self.rotation().max_by_key(|node| calls(*node))?;
        (calls(least) + 2 <= calls(most)).then_some(most)
    }

    /// Whether all servers are believed to be away, so that no more is taken than a probe needs. The
    /// task is woken when one is there again.
    pub(crate) fn are_shut(&self, cx: &Context<'_>) -> bool {
        self.nodes.iter().all(|node| node.admission.is_shut(cx))
    }

    /// A call on this node has met a fault.
    pub(crate) fn note_fault(&mut self, status: Arc<Status>) {
        self.last_fault = Some(status);
    }

    /// When an item that has had so many tries may have another; `None`: the server wants none.
    pub(crate) fn wait(
        &self,
        now: Instant,
        failure: Option<(Verdict, &Arc<Status>)>,
    ) -> impl Fn(u32) -> Option<Instant> + use<'_> {
        let word = failure.and_then(|(_, status)| hints::of(status));
        // What cannot be written waits as long as in an outage, whatever else succeeds.
        let is_at_item = failure.is_some_and(|(verdict, status)| {
            verdict == Verdict::Attempt && !verdict::cannot_write(status)
        });
        move |tries| match word {
            Some(Pushback::Never) => None,
            Some(Pushback::After(wait)) => Some(later(now, wait)),
            None if is_at_item => Some(later(now, self.retry.wait_at_fault(tries))),
            None => Some(later(now, self.retry.wait_after(tries))),
        }
    }

    /// A server has answered an item, so the time after which open breakers are given up starts anew.
    pub(crate) fn progress(&mut self) {
        self.open_since = None;
    }

    /// The adapter tries again after it has given up: on the next node first.
    pub(crate) fn try_again(&mut self) {
        self.open_since = None;
        self.first = (self.first + 1) % self.nodes.len();
    }

    /// When open breakers are given up. An adapter that `wants` no call does not wait for them.
    pub(crate) fn gives_up_at(&mut self, waited: Waited, wants: bool) -> Option<Waited> {
        if !wants || !self.retry.is_on() || !self.are_open() {
            self.open_since = None;
            return None;
        }
        let since = *self.open_since.get_or_insert(waited);
        let patience = |node: &Node| node.admission.breaker().give_up_after();
        let mut longest = Duration::ZERO;
        for patience in self.nodes.iter().map(patience) {
            longest = longest.max(patience?);
        }
        since.checked_add(longest)
    }

    /// Why there is no answer, as far as is known.
    pub(crate) fn last_fault(&self) -> Option<Arc<Status>> {
        match &self.last_fault {
            None if self.are_open() => Some(self.why_open()),
            last => last.clone(),
        }
    }

    /// Why open breakers are given up.
    pub(crate) fn why_open(&self) -> Arc<Status> {
        self.last_fault.clone().unwrap_or_else(|| {
            let status = Status::unavailable("other adapters of this client met faults");
            Arc::new(status)
        })
    }

    fn are_open(&self) -> bool {
        let now = Instant::now();
        self.nodes
            .iter()
            .all(|node| node.admission.breaker().is_open() || node.admission.is_refusing(now))
    }

    /// Sets a node aside for a while that refuses the caller, or does not have the method. `false`: there is no other that
    /// may be asked.
    pub(crate) fn set_aside(&mut self, refuses: usize, status: &Status) -> bool {
        let now = Instant::now();
        let mut others = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(node, _)| *node != refuses);
        if !self.retry.is_on() || others.all(|(_, node)| node.admission.is_refusing(now)) {
            return false;
        }
        let error = in_words(status);
        warn!(target: LOG, node = %self.name(refuses), %error, "a node refuses the caller, and is set aside for a minute");
        self.nodes[refuses].admission.refuses(now);
        true
    }
}

//! The registry that the real server stores in is away, or fails.

use agntcy_dir_stream::{Cid, Handle};
use rustix::process::Signal;

use super::*;

/// The registry as a process.
struct Registry(Child);

/// At this signal, it answers 500 to all, or ends that.
const FAIL: Signal = Signal::USR1;

/// At this one, it closes its port, or opens it again.
const CLOSE: Signal = Signal::USR2;

impl Registry {
    async fn start(address: &str) -> Self {
        let binary =
            std::env::var("OCI_REGISTRY_BIN").expect("OCI_REGISTRY_BIN names the registry");
        let mut process = Command::new(binary)
            .args(["-listen", address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert_eq!(
            soon(lines.next_line()).await.unwrap().as_deref(),
            Some("listening")
        );
        Self(process)
    }

    fn signal(&self, signal: Signal) {
        send_signal(&self.0, signal);
    }
}

/// A server over a registry, both on addresses of their own.
async fn start(name: &str) -> (Server, Registry) {
    let address = free_address();
    let registry = Registry::start(&address).await;
    let more = Vec::leak(vec!["-registry", &*String::leak(address)]);
    (Server::start(name, more).await, registry)
}

#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_server_over_a_registry_does_what_one_over_a_folder_does() {
    let (server, _registry) = start("registry").await;
    let client = server.client().await;
    all_pushed(soon(records(50).push_to(&client).collect()).await, 50);
    all_there(&client, 50).await;
    for result in soon(cids(50).pull_from(&client).collect::<Vec<_>>()).await {
        let pulled = result.unwrap_or_else(|failed| panic!("{failed}"));
        assert_eq!(
            pulled.record.cid().unwrap(),
            cid(&record(pulled.index as usize))
        );
    }
    // What is stored is stored again without an error, unlike over a folder.
    all_pushed(soon(records(50).push_to(&client).collect()).await, 50);
    let deleted = soon(cids(50).delete_from(&client).finish()).await;
    assert_eq!(deleted.stats.succeeded, 50, "{deleted}");
    let found = soon(cids(50).lookup_in(&client).collect::<Vec<_>>()).await;
    assert!(found.iter().all(|found| {
        found
            .as_ref()
            .is_err_and(|failed| failed.kind() == ErrorKind::NotFound)
    }));
}

/// What the registry does meanwhile.
struct Fault {
    name: &'static str,
    begin: Signal,
    end: Signal,
    lasts: Duration,
}

impl Fault {
    /// Runs it. When it ends, the adapter must still wait for something.
    async fn run(&self, registry: &Registry, handle: &Handle) {
        registry.signal(self.begin);
        tokio::time::sleep(self.lasts).await;
        println!("registry {}: {:?}", self.name, handle.last_fault());
        let stats = handle.stats();
        registry.signal(self.end);
        assert!(stats.in_window > 0, "the fault was felt: {stats}");
    }

    /// Pushes through it, and gives the client of a server that has all then.
    async fn fails_no_push(&self) -> (Server, Registry, Client) {
        let (server, registry) = start(&format!("registry-{}", self.name)).await;
        let client = server.client().await;
        let results = records(COUNT).push_to(&client);
        let handle = results.handle();
        let results = run(results, 50, self.run(&registry, &handle)).await;
        print(&format!("registry {}, push", self.name), &handle.stats());
        all_pushed(results, COUNT);
        all_there(&client, COUNT).await;
        (server, registry, client)
    }

    /// Pulls each record ten times through it.
    async fn pulls(&self, client: &Client, registry: &Registry) -> Vec<PullResult<Cid>> {
        let refs = stream::iter((0..10 * COUNT).map(|number| cid(&record(number % COUNT))));
        let results = refs.pull_from_with(client, &Options::new().dedup(false).window(64));
        let handle = results.handle();
        let results = run(results, COUNT, async {
            registry.signal(self.begin);
            tokio::time::sleep(self.lasts).await;
            registry.signal(self.end);
        });
        let results = results.await;
        print(&format!("registry {}, pull", self.name), &handle.stats());
        assert_eq!(results.len(), 10 * COUNT);
        for (number, result) in results.iter().enumerate() {
            if let Ok(pulled) = result {
                assert_eq!(pulled.index, number as u64);
                assert_eq!(pulled.record.cid().unwrap(), cid(&record(number % COUNT)));
            }
        }
        results
    }

    async fn fails_no_pull(&self, client: &Client, registry: &Registry) {
        for result in self.pulls(client, registry).await {
            result.unwrap_or_else(|failed| panic!("{failed}"));
        }
    }
}

/// The server asks the registry where a record is, and whatever becomes of that, it says that the record is not there.
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_registry_that_is_gone_fails_no_push_and_makes_the_server_deny_what_it_has() {
    let gone = Fault {
        name: "gone",
        begin: CLOSE,
        end: CLOSE,
        lasts: Duration::from_secs(10),
    };
    let (_server, registry, client) = gone.fails_no_push().await;
    let mut denied = 0;
    for result in gone.pulls(&client, &registry).await {
        if let Err(failed) = result {
            let words = "failed to pull record: record not found: ";
            assert!(failed.to_string().contains(words), "{failed}");
            assert_eq!(failed.kind(), ErrorKind::NotFound);
            denied += 1;
        }
    }
    println!("{denied} pulls of records that are there were answered with \"not found\"");
    assert!(denied > 0, "the server tells it apart: so must this test");
    let again = soon(cids(COUNT).pull_from(&client).finish()).await;
    assert_eq!(again.stats.succeeded, COUNT as u64, "{again}");
}

#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_registry_that_stands_still_for_ten_seconds_is_waited_for() {
    let frozen = Fault {
        name: "frozen",
        begin: Signal::STOP,
        end: Signal::CONT,
        lasts: Duration::from_secs(10),
    };
    let (_server, registry, client) = frozen.fails_no_push().await;
    frozen.fails_no_pull(&client, &registry).await;
}

/// The server asks it again, up to five times.
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_registry_that_answers_500_for_five_seconds_fails_nobody() {
    let failing = Fault {
        name: "failing",
        begin: FAIL,
        end: FAIL,
        lasts: Duration::from_secs(5),
    };
    let (_server, registry, client) = failing.fails_no_push().await;
    failing.fails_no_pull(&client, &registry).await;
}

//! Identities of SPIFFE: what is shown and whom it is shown to, over rotations, and what is said where there is none.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::{Method, Serving, Store};
use agntcy_dir_stream::{ClientBuilder, Code, ErrorKind, Retry, Spiffe};
use futures::channel::mpsc;
use futures::{StreamExt as _, stream};

use crate::support::clock::soon;
use crate::support::records::{cids, record, records};
use crate::support::results::invalid;
use crate::support::stores::{calls_of, listen};
use crate::support::tls::{Ca, Front, Signed, Speaks};
use crate::support::workload_api::{Asked, Does, Given, WorkloadApi};

/// Who we are, and who the server is.
const CLIENT: &str = "spiffe://example.org/importer";
const SERVER: &str = "spiffe://example.org/dir";

/// A trust domain with a store that wants identities of it, and a workload that has one.
struct Domain {
    ca: Ca,
    svid: Signed,
    api: WorkloadApi,
    store: Store,
    front: Front,
    _serving: Serving,
}

impl Domain {
    async fn new() -> Self {
        Self::with(Store::new()).await
    }

    async fn with(store: Store) -> Self {
        let ca = Ca::of_trust_domain("example.org");
        let svid = ca.svid(CLIENT);
        let api = WorkloadApi::new(Given::new(CLIENT, svid.clone(), &[&ca]));
        let serving = listen(&store).await;
        let certificate = ca.svid(SERVER);
        let speaks = Speaks::with(&certificate).wants_clients_of(&ca);
        let front = Front::of(serving.address(), &speaks).await;
        Self {
            ca,
            svid,
            api,
            store,
            front,
            _serving: serving,
        }
    }

    fn x509(&self) -> Spiffe {
        Spiffe::x509().socket(self.api.address())
    }

    fn jwt(&self) -> Spiffe {
        Spiffe::jwt("dir").socket(self.api.address())
    }

    /// Shows this identity. Nothing waits until its time is up.
    fn shows(&self, identity: Spiffe) -> ClientBuilder {
        let builder = Client::builder(&self.front.url);
        builder.connect_timeout(Duration::MAX).spiffe(identity)
    }

    /// Has the server show this certificate, and take clients of this CA.
    fn server_is(&self, certificate: &Signed, clients_of: &Ca) {
        let speaks = Speaks::with(certificate).wants_clients_of(clients_of);
        self.front.change(&speaks);
    }
}

async fn works(client: &Client) {
    let options = Options::new().window(10).calls(2);
    let summary = soon(records(20).push_to_with(client, &options).finish()).await;
    assert_eq!(summary.stats.succeeded, 20, "{summary}");
    assert_eq!(summary.stats.faults, 0, "{summary}");
}

/// What is said by `connect`, and by an adapter, after the words that say what they tried.
async fn fails(builder: ClientBuilder) -> String {
    let error = soon(builder.clone().connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let connecting = format!("{:#}", anyhow::Error::from(error));
    let words = connecting.split_once(": cannot connect to https://127.0.0.1:");
    let (_, words) = words.expect(&connecting);
    let words = words.split_once(": ").expect("a port").1;

    let client = builder.connect_lazy().unwrap();
    let options = Options::new().retry(Retry::off());
    let push = records(1).push_to_with(&client, &options).finish();
    let summary = soon(push).await;
    let pushing = &summary.first_failures[0].message;
    // It asks for a token first, if it needs one.
    let same = words.strip_prefix("no X.509 SVID").unwrap_or(words);
    assert!(pushing.ends_with(same), "{pushing}\n{words}");
    words.to_owned()
}

#[tokio::test]
async fn both_sides_show_an_x509_svid_and_look_at_the_others() {
    let domain = Domain::new().await;
    let any = domain.x509();
    let this = domain.x509().server_id(SERVER);
    let one_of_these = this.clone().server_id("spiffe://example.org/other");
    // A URL cannot have all characters of the path.
    let link = std::env::temp_dir().join(format!("workload-api-{}", std::process::id()));
    std::os::unix::fs::symlink(domain.api.path(), &link).unwrap();
    let by_url = Spiffe::x509().socket(format!("unix://{}", link.display()));
    for identity in [any, this, one_of_these, by_url] {
        works(&soon(domain.shows(identity).connect()).await.unwrap()).await;
    }
    std::fs::remove_file(link).unwrap();
    let shown = domain.front.shown();
    assert_eq!(shown, vec![Some(domain.svid.certificate_der()); 4]);
}

#[tokio::test]
async fn what_is_rotated_in_mid_stream_is_shown_by_the_next_connection() {
    let domain = Domain::new().await;
    let client = soon(domain.shows(domain.x509()).connect()).await.unwrap();
    let (send, input) = mpsc::unbounded();
    let mut results = input.push_to(&client);
    let mut pushed = 0;
    let mut push_ten = async || {
        for _ in 0..10 {
            send.unbounded_send(record(pushed)).unwrap();
            pushed += 1;
        }
        for _ in 0..10 {
            let result = soon(results.next()).await.unwrap();
            result.unwrap_or_else(|failed| panic!("{failed}"));
        }
    };
    push_ten().await;

    // The CA is another now, too.
    let new_ca = Ca::of_trust_domain("example.org");
    let new = new_ca.svid(CLIENT);
    let given = Given::new(CLIENT, new.clone(), &[&domain.ca, &new_ca]);
    domain.api.change(given);
    push_ten().await;
    assert_eq!(calls_of(&domain.store, Method::Push).len(), 1);
    assert_eq!(domain.front.shown(), [Some(domain.svid.certificate_der())]);

    domain.server_is(&new_ca.svid(SERVER), &new_ca);
    push_ten().await;
    assert_eq!(
        domain.front.shown(),
        [&domain.svid, &new].map(|svid| Some(svid.certificate_der()))
    );
    assert_eq!(domain.store.len(), 30);
}

/// What watches the Workload API for a connection ends with it.
#[tokio::test]
async fn nothing_is_left_of_a_connection_that_has_ended() {
    let domain = Domain::new().await;
    let client = soon(domain.shows(domain.x509()).connect()).await.unwrap();
    for number in 0..5 {
        works(&client).await;
        domain.api.until(|asked| asked.listeners == 1).await;
        domain.store.clear();
        if number < 4 {
            domain.server_is(&domain.ca.svid(SERVER), &domain.ca);
            // It finds out that its connection is gone, and makes another.
            let _ = soon(client.lookup(record(0))).await;
        }
    }
    drop(client);
    domain.api.until(|asked| asked.listeners == 0).await;
}

#[tokio::test]
async fn a_server_that_is_another_is_refused_in_words() {
    let domain = Domain::new().await;
    let other_domain = Ca::of_trust_domain("example.com");
    let impostor = Ca::of_trust_domain("example.org");
    let ours = || domain.x509().server_id(SERVER);
    let fails_with = async |certificate: &Signed, identity: Spiffe| {
        domain.server_is(certificate, &domain.ca);
        fails(domain.shows(identity)).await
    };
    let good = domain.ca.svid("spiffe://example.org/another");
    assert_eq!(
        fails_with(&good, ours()).await,
        "the server is `spiffe://example.org/another`, which is none of those that it may be \
         (`Spiffe::server_id`)"
    );
    assert_eq!(
        fails_with(
            &other_domain.svid("spiffe://example.com/dir"),
            domain.x509()
        )
        .await,
        "the server is of the trust domain `example.com`, of which the Workload API gives no bundle"
    );
    let words = fails_with(&impostor.svid(SERVER), ours()).await;
    let no_bundle = "no bundle of the Workload API has the CA of the server's certificate: ";
    assert!(words.starts_with(no_bundle), "{words}");
    assert_eq!(
        fails_with(&domain.ca.sign(&["127.0.0.1"]), ours()).await,
        "the server's certificate has no SPIFFE ID"
    );
    let expired = domain.ca.svid_for_years(SERVER, 2019, 2020);
    let words = fails_with(&expired, ours()).await;
    assert!(
        words.starts_with("the server's certificate has expired: "),
        "{words}"
    );

    let given = Given::new(CLIENT, domain.svid.clone(), &[&domain.ca]);
    domain
        .api
        .change(given.trusts("spiffe://example.com", &other_domain));
    domain.server_is(&other_domain.svid("spiffe://example.com/dir"), &domain.ca);
    works(&soon(domain.shows(domain.x509()).connect()).await.unwrap()).await;
    let words = fails(domain.shows(ours())).await;
    assert!(
        words.contains("the server is `spiffe://example.com/dir`, which is none"),
        "{words}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_trust_us_says_so() {
    let domain = Domain::new().await;
    let certificate = domain.ca.svid(SERVER);
    domain.server_is(&certificate, &Ca::of_trust_domain("example.com"));
    let words = fails(domain.shows(domain.x509())).await;
    assert!(
        words.starts_with("the server does not accept the X.509 SVID: "),
        "{words}"
    );
}

#[tokio::test]
async fn where_there_is_no_identity_it_is_said_at_once_and_why() {
    let mut domain = Domain::new().await;
    let given = Given::new(CLIENT, domain.svid.clone(), &[&domain.ca]);
    let no_svid = format!(
        "no X.509 SVID from the Workload API at `{}`: ",
        domain.api.address()
    );
    for (does, why) in [
        (
            // SPIRE's words.
            Does::Refuse(Code::PermissionDenied, "no identity issued"),
            "it issues no identity to this process, which no registration entry describes",
        ),
        (
            Does::Refuse(Code::PermissionDenied, "go away"),
            "permission denied: go away",
        ),
        (
            Does::Refuse(Code::Unavailable, "the agent is not ready"),
            "gRPC status unavailable: the agent is not ready",
        ),
    ] {
        domain.api.change(does);
        for identity in [domain.x509(), domain.jwt()] {
            let words = fails(domain.shows(identity)).await;
            assert_eq!(words, format!("{no_svid}{why}"));
        }
    }

    domain.api.go_away().await;
    let words = fails(domain.shows(domain.x509())).await;
    let away = "cannot connect to it: No such file or directory (os error 2)";
    assert_eq!(words, format!("{no_svid}{away}"));

    domain.api.come_back();
    domain.api.change(given);
    works(&soon(domain.shows(domain.x509()).connect()).await.unwrap()).await;
}

#[tokio::test]
async fn a_workload_api_that_does_not_answer_is_given_up() {
    let domain = Domain::new().await;
    domain.api.change(Does::SayNothing);
    let connecting = domain.shows(domain.x509()).connect();
    let waiting = async {
        domain.api.until(|asked| asked.x509 == 1).await;
        // Whatever is waited for comes at once.
        tokio::time::pause();
    };
    let (error, ()) = soon(futures::future::join(connecting, waiting)).await;
    let error = format!("{:#}", anyhow::Error::from(error.unwrap_err()));
    let end = format!("at `{}`: no answer within 5 s", domain.api.address());
    assert!(error.ends_with(&end), "{error}");
}

#[tokio::test]
async fn an_svid_that_has_expired_is_not_shown() {
    let domain = Domain::new().await;
    let expired = domain.ca.svid_for_years(CLIENT, 2019, 2020);
    domain
        .api
        .change(Given::new(CLIENT, expired, &[&domain.ca]));
    let connecting = domain.shows(domain.x509()).connect();
    let waiting = async {
        // The first to ask does not look at it.
        domain.api.until(|asked| asked.x509 == 2).await;
        tokio::time::pause();
    };
    let (error, ()) = soon(futures::future::join(connecting, waiting)).await;
    let error = format!("{:#}", anyhow::Error::from(error.unwrap_err()));
    let end = "what it gives is of no use: it may have expired, or this system's clock be wrong";
    assert!(error.ends_with(end), "{error}");
}

#[tokio::test]
async fn a_stream_waits_for_an_identity_that_comes_late() {
    let domain = Domain::new().await;
    let given = Given::new(CLIENT, domain.svid.clone(), &[&domain.ca]);
    for identity in [domain.x509(), domain.jwt()] {
        let refuse = Does::Refuse(Code::PermissionDenied, "no identity issued");
        domain.api.change(refuse);
        let before = domain.api.asked();
        let client = domain.shows(identity).connect_lazy().unwrap();
        let push = records(20).push_to(&client).finish();
        let late = async {
            let is_asked =
                |now: &Asked| now.x509 + now.jwt.len() >= before.x509 + before.jwt.len() + 2;
            domain.api.until(is_asked).await;
            domain.api.change(given.clone());
        };
        let (summary, ()) = soon(futures::future::join(push, late)).await;
        assert_eq!(summary.stats.succeeded, 20, "{summary}");
    }
}

#[test]
fn what_is_no_address_and_what_is_no_id_is_refused_before_anything_happens() {
    let built = |identity: Spiffe| {
        let runtime = crate::support::clock::runtime();
        let _inside = runtime.enter();
        let builder = Client::builder("https://127.0.0.1:1").spiffe(identity);
        invalid(builder.connect_lazy().map(drop))
    };
    for (address, why) in [
        ("agent.sock", "endpoint socket is not a valid URI"),
        ("", "endpoint socket is not a valid URI"),
        (
            "http://127.0.0.1:80",
            "endpoint socket URI scheme must be unix: or tcp:",
        ),
        (
            "unix://agent.sock",
            "unix: endpoint socket URI must not include an authority",
        ),
        (
            "tcp://localhost:1",
            "tcp: endpoint socket URI host must be an IP address",
        ),
    ] {
        for identity in [Spiffe::x509(), Spiffe::jwt("dir")] {
            assert_eq!(
                built(identity.socket(address)),
                format!(
                    "invalid: `{address}` is no address of a Workload API such as \
                     unix:///run/spire/agent.sock: {why}"
                )
            );
        }
    }
    for id in [
        "example.org/dir",
        "https://example.org/dir",
        "",
        "spiffe://",
    ] {
        assert_eq!(
            built(Spiffe::x509().socket("/agent.sock").server_id(id)),
            format!("invalid: `{id}` is no SPIFFE ID such as spiffe://example.org/dir")
        );
    }
    if std::env::var_os("SPIFFE_ENDPOINT_SOCKET").is_none() {
        assert_eq!(
            built(Spiffe::x509()),
            "invalid: there is no Workload API: neither `Spiffe::socket` nor the variable \
             SPIFFE_ENDPOINT_SOCKET names one"
        );
    }
}

/// A store that keeps the tokens that it was shown, and accepts those of whose claims this is true.
fn keeps_tokens(
    accepts: impl Fn(&serde_json::Value) -> bool + Send + Sync + 'static,
) -> (Store, Arc<Mutex<Vec<String>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeps = Arc::clone(&kept);
    let authorize = move |token: &str| {
        keeps.lock().unwrap().push(token.to_owned());
        let claims = token.split('.').nth(1).unwrap();
        let claims = data_encoding::BASE64URL_NOPAD
            .decode(claims.as_bytes())
            .unwrap();
        accepts(&serde_json::from_slice(&claims).unwrap())
    };
    (Store::builder().authorize(authorize).build(), kept)
}

#[tokio::test]
async fn a_jwt_svid_is_shown_to_each_call_and_fetched_once() {
    let (store, shown) = keeps_tokens(|claims| {
        claims["aud"] == serde_json::json!(["dir"]) && claims["sub"] == CLIENT
    });
    let domain = Domain::with(store).await;
    let identity = domain.jwt().server_id(SERVER);
    let client = soon(domain.shows(identity).connect()).await.unwrap();
    let options = Options::new().window(5).calls(4);
    for _ in 0..3 {
        let push = records(100).push_to_with(&client, &options).finish();
        assert_eq!(soon(push).await.stats.succeeded, 100);
        let lookup = cids(100).lookup_in_with(&client, &options).finish();
        assert_eq!(soon(lookup).await.stats.succeeded, 100);
    }
    assert_eq!(domain.api.asked().jwt, [["dir"]]);
    let shown = shown.lock().unwrap();
    assert_eq!(shown.len(), domain.store.calls().len());
    assert!(shown.len() >= 6);
    assert_eq!(shown.iter().collect::<HashSet<_>>().len(), 1);
}

/// Lets time pass for nothing but what is waited for.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_jwt_svid_is_renewed_halfway_to_its_end() {
    let (store, _) = keeps_tokens(|_| true);
    let domain = Domain::with(store).await;
    domain.api.jwts_live(Duration::from_secs(3600));
    let client = soon(domain.shows(domain.jwt()).connect()).await.unwrap();
    let mut pushed = 0;
    for (minutes, asked) in [(0, 1), (29, 1), (2, 2), (28, 2), (3, 3)] {
        pass(Duration::from_secs(minutes * 60)).await;
        soon(client.push(record(pushed))).await.unwrap();
        pushed += 1;
        assert_eq!(domain.api.asked().jwt.len(), asked, "{pushed}");
    }
}

#[tokio::test]
async fn a_jwt_svid_that_is_refused_is_replaced() {
    let (store, shown) = keeps_tokens(|claims| claims["jti"] != 1);
    let domain = Domain::with(store).await;
    let client = soon(domain.shows(domain.jwt()).connect()).await.unwrap();
    works(&client).await;
    assert_eq!(domain.api.asked().jwt.len(), 2);
    assert!(shown.lock().unwrap().len() >= 2);
}

#[tokio::test]
async fn a_jwt_svid_for_another_audience_is_refused_by_the_server() {
    let (store, _) = keeps_tokens(|claims| claims["aud"] == serde_json::json!(["dir"]));
    let domain = Domain::with(store).await;
    let identity = Spiffe::jwt("other").socket(domain.api.address());
    let client = soon(domain.shows(identity).connect()).await.unwrap();
    let mut results = stream::iter([record(1)]).push_to(&client);
    let failed = soon(results.next()).await.unwrap().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Denied);
    assert_eq!(
        failed.error.to_string(),
        "access denied: invalid or expired token"
    );
}

#[test]
fn an_identity_and_options_of_tls_do_not_go_together() {
    let builder = || Client::builder("https://localhost:1");
    let spiffe = || Spiffe::x509().socket("unix:///nowhere.sock");
    for both in [
        builder().spiffe(spiffe()).ca_file("/ca.pem"),
        builder().ca_file("/ca.pem").spiffe(spiffe()),
        builder()
            .spiffe(spiffe())
            .client_certificate_files("/a", "/b"),
        builder().spiffe(spiffe()).server_name("localhost"),
    ] {
        let error = both.connect_lazy().unwrap_err().to_string();
        assert!(
            error.starts_with("invalid: an identity of SPIFFE does not go together"),
            "{error}"
        );
    }
}

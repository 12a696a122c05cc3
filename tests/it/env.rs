//! Clients as the environment describes them, in processes of their own: the variables of this one are not to be
//! changed.

use std::process::Stdio;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use futures::StreamExt as _;
use tokio::process::Command;

use crate::support::clock::soon;
#[cfg(feature = "tls")]
use crate::support::folder::Folder;
use crate::support::records::records;
#[cfg(feature = "tls")]
use crate::support::tls::{Ca, Front, Speaks};

/// What the other process is: it pushes three records.
#[tokio::test]
#[ignore = "the other tests run it with variables"]
async fn child() {
    match soon(Client::from_env()).await {
        Ok(client) => {
            let results: Vec<_> = soon(records(3).push_to(&client).collect()).await;
            let pushed = results.iter().filter(|result| result.is_ok()).count();
            println!("\npushed {pushed}");
        }
        Err(error) => println!("\n{:#}", anyhow::Error::from(error)),
    }
}

/// What a process says that is started with these variables, beside what it always says.
async fn says(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["env::child", "--exact", "--ignored", "--nocapture"])
        .stdout(Stdio::piped());
    for (name, _) in std::env::vars() {
        if name.starts_with("DIRECTORY_CLIENT_") {
            command.env_remove(name);
        }
    }
    for (name, value) in variables {
        command.env(format!("DIRECTORY_CLIENT_{name}"), value);
    }
    let output = soon(command.output()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let is_ours = |line: &&str| {
        let others = ["running ", "test ", "\u{0}"];
        !line.is_empty() && !others.iter().any(|other| line.starts_with(other)) && *line != "ok"
    };
    said.lines().filter(is_ours).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_process_connects_as_its_variables_say() {
    let store = Store::new();
    let serving = store.listen("127.0.0.1:0").await.unwrap();
    let address = serving.address().to_string();
    assert_eq!(says(&[("SERVER_ADDRESS", &address)]).await, "pushed 3");
    assert_eq!(store.len(), 3);
    assert_eq!(
        says(&[("SERVER_ADDRESS", "http://dir/a"), ("AUTH_MODE", "")]).await,
        "invalid: DIRECTORY_CLIENT_SERVER_ADDRESS: not a URL such as http://127.0.0.1:8888: a path is not used"
    );
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_process_shows_the_certificate_and_the_token_of_its_variables() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let (server, client) = (ca.sign(&["dir.example.org"]), clients.sign(&["importer"]));
    let folder = Folder::new("env");
    let write = |name: &str, text: &str| folder.write(name, text).to_str().unwrap().to_owned();
    let (ca_file, cert) = (
        write("ca.pem", &ca.pem()),
        write("client.pem", &client.certificate),
    );
    let key = write("client.key", &client.key);

    let store = Store::new();
    let serving = store.listen("127.0.0.1:0").await.unwrap();
    let speaks = Speaks::with(&server).wants_clients_of(&clients);
    let front = Front::of(serving.address(), &speaks).await;
    let address = front.url.replace("https://", "");
    let variables = [
        ("AUTH_MODE", "tls"),
        ("SERVER_ADDRESS", &address),
        ("TLS_SERVER_NAME", "dir.example.org"),
        ("TLS_CA_FILE", &ca_file),
        ("TLS_CERT_FILE", &cert),
        ("TLS_KEY_FILE", &key),
    ];
    assert_eq!(says(&variables).await, "pushed 3");
    let said = says(&variables[..4]).await;
    assert!(
        said.contains("wants a client certificate, and none was given"),
        "{said}"
    );
    let mut missing = variables;
    missing[3].1 = "/nowhere/ca.pem";
    assert_eq!(
        says(&missing).await,
        "invalid: cannot read `/nowhere/ca.pem` (DIRECTORY_CLIENT_TLS_CA_FILE): No such file or directory (os error 2)"
    );

    let store = Store::builder()
        .authorize(|token| token == "SECRET")
        .build();
    let serving = store.listen("127.0.0.1:0").await.unwrap();
    let front = Front::of(serving.address(), &Speaks::with(&server)).await;
    let address = front.url.replace("https://", "");
    let mut variables = [
        ("AUTH_MODE", "oidc"),
        ("SERVER_ADDRESS", &address),
        ("TLS_SERVER_NAME", "dir.example.org"),
        ("TLS_CA_FILE", &ca_file),
        ("AUTH_TOKEN", "SECRET"),
    ];
    assert_eq!(says(&variables).await, "pushed 3");
    variables[4].1 = "another";
    assert_eq!(says(&variables).await, "pushed 0");
}

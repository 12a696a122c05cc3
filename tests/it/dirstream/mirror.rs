//! Mirrors.

use std::time::Duration;

use agntcy_dir_stream::server::Store;
use tokio::time::sleep;

use crate::support::clock::soon;
use crate::support::records::{cid, record};
use crate::support::stores::{listen, store_with};

use super::{Tool, ended};

#[tokio::test]
async fn one_store_becomes_as_another() {
    let tool = Tool::over("mirror", store_with(50).0).await;
    let copy = Store::new();
    let extra = copy.insert(record(99)).unwrap();
    copy.insert(record(0)).unwrap();
    let serving = listen(&copy).await;
    let (from, to) = (tool.serving.url(), serving.url());
    let mirror = ["mirror", "--from", &from, "--to", &to];
    let ran = ended(tool.command(mirror).spawn().unwrap())
        .await
        .ends_with(0);
    let lines = ran.lines();
    assert_eq!(lines.len(), 49);
    assert!(
        lines.iter().all(|line| line["change"] == "pushed"),
        "{lines:?}"
    );
    assert_eq!(copy.len(), 51);

    let mut command = tool.command(mirror);
    let ran = ended(command.arg("--delete").spawn().unwrap())
        .await
        .ends_with(0);
    let deleted = serde_json::json!({"index": 0, "cid": extra.to_string(), "change": "deleted"});
    assert_eq!(ran.lines(), [deleted]);
    assert_eq!(copy.cids(), tool.store.cids());
}

#[tokio::test]
async fn a_mirror_that_cannot_read_its_source_deletes_nothing() {
    let tool = Tool::over("mirror-broken", store_with(5).0).await;
    let (copy, _) = store_with(9);
    let serving = listen(&copy).await;
    tool.store.inject(
        agntcy_dir_stream::server::Fault::status(agntcy_dir_stream::Status::permission_denied(
            "no",
        ))
        .on(agntcy_dir_stream::server::Method::SearchCids)
        .times(100),
    );
    let (from, to) = (tool.serving.url(), serving.url());
    let mirror = ["mirror", "--delete", "--from", &from, "--to", &to];
    let ran = ended(tool.command(mirror).spawn().unwrap()).await;
    ran.ends_with(2).says("access denied");
    assert_eq!(copy.len(), 9);
}

#[cfg(unix)]
#[tokio::test]
async fn a_mirror_follows_until_it_is_told_to_end() {
    let tool = Tool::over("mirror-follow", store_with(5).0).await;
    let copy = Store::new();
    let serving = listen(&copy).await;
    let (from, to) = (tool.serving.url(), serving.url());
    let mirror = [
        "mirror", "--follow", "--delete", "--from", &from, "--to", &to,
    ];
    let process = tool.command(mirror).spawn().unwrap();
    let becomes_equal = async || {
        let equal = async {
            while copy.cids() != tool.store.cids() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        soon(equal).await;
    };
    becomes_equal().await;
    let client = tool.store.client();
    client.push(record(7)).await.unwrap();
    client.delete(cid(&record(1))).await.unwrap();
    becomes_equal().await;
    super::ends::send(&process, "INT");
    ended(process).await.ends_with(130);
}

//! Mirrors.

use std::time::Duration;

use agntcy_dir_stream::server::Store;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::sleep;

use crate::support::clock::soon;
use crate::support::records::{cid, record};
use crate::support::sockets::free_address;
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
    ran.ends_with(1).says("access denied");
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

/// What the list has not told yet is no reason to delete.
#[cfg(unix)]
#[tokio::test]
async fn a_mirror_that_is_told_to_end_deletes_nothing() {
    use agntcy_dir_stream::server::{Fault, Method};

    for (name, is_slow) in [("source", [true, false]), ("copy", [false, true])] {
        let (store, _) = store_with(50);
        let (copy, _) = store_with(60);
        for (store, is_slow) in [&store, &copy].into_iter().zip(is_slow) {
            if is_slow {
                let slow = Fault::delay(Duration::from_millis(100));
                store.inject(slow.on(Method::SearchCids).times(u64::MAX));
            }
        }
        let tool = Tool::over(&format!("mirror-told-{name}"), store).await;
        let serving = listen(&copy).await;
        let (from, to) = (tool.serving.url(), serving.url());
        let mirror = ["mirror", "--delete", "--from", &from, "--to", &to];
        let process = tool.command(mirror).spawn().unwrap();
        let is_listing = |calls: &[agntcy_dir_stream::server::Call]| {
            calls.iter().any(|call| call.method == Method::SearchCids)
        };
        soon(if is_slow[0] { &tool.store } else { &copy }.wait_for(is_listing)).await;
        super::ends::send(&process, "INT");
        ended(process).await.ends_with(130);
        assert_eq!(copy.len(), 60, "the slow one is the {name}");
    }
}

#[tokio::test]
async fn a_mirror_tells_each_record_once() {
    let tool = Tool::over("mirror-refused", store_with(20).0).await;
    let no_sevens = |record: &agntcy_dir_stream::Record| match record.name() {
        Some("agent-7") => {
            agntcy_dir_stream::server::Validation::Refuse(vec!["no sevens".to_owned()])
        }
        _ => agntcy_dir_stream::server::Validation::Pass,
    };
    let copy = Store::builder().validate(no_sevens).build();
    let serving = listen(&copy).await;
    let (from, to) = (tool.serving.url(), serving.url());
    let mirror = ["mirror", "--from", &from, "--to", &to];
    let ran = ended(tool.command(mirror).spawn().unwrap()).await;
    let lines = ran.ends_with(1).says("mirror: 19 ok, 1 failed").lines();
    let failed: Vec<_> = lines.iter().filter_map(|line| line.get("error")).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["cid"], cid(&record(7)).to_string());
    assert_eq!((lines.len(), copy.len()), (20, 19));
}

#[tokio::test]
async fn a_mirror_of_nothing_does_not_delete_all() {
    let tool = Tool::over("mirror-nothing", store_with(5).0).await;
    let (copy, _) = store_with(9);
    let serving = listen(&copy).await;
    let (from, to) = (tool.serving.url(), serving.url());
    let mirror = [
        "mirror",
        "--delete",
        "name=nobody",
        "--from",
        &from,
        "--to",
        &to,
    ];
    let ran = ended(tool.command(mirror).spawn().unwrap()).await;
    ran.ends_with(1).says("--from has nothing that matches");
    assert_eq!(copy.len(), 9);
    let mirror = ["mirror", "--delete", "--from", &from, "--to", &from];
    let ran = ended(tool.command(mirror).spawn().unwrap()).await;
    ran.ends_with(2).says("--from and --to are the same");
}

/// A mirror of many records, while one of the stores is away again and again.
#[tokio::test]
#[ignore = "takes a minute, and needs the tool built with optimization: `DIRSTREAM=target/release/dirstream`"]
async fn a_hundred_thousand_records_are_the_same_in_both_whatever_happens_to_the_stores() {
    const RECORDS: usize = 100_000;
    let (store, _) = store_with(RECORDS);
    let copy = Store::new();
    copy.insert(record(RECORDS)).unwrap();
    let binary = std::env::var("DIRSTREAM").expect("DIRSTREAM names the tool's binary");
    let binary = std::path::absolute(binary).unwrap();
    let addresses = [free_address(), free_address()];
    let mut serving = [
        Some(store.listen(&addresses[0]).await.unwrap()),
        Some(copy.listen(&addresses[1]).await.unwrap()),
    ];
    let urls = addresses.clone().map(|address| format!("http://{address}"));
    let mut process = tokio::process::Command::new(binary)
        .args([
            "mirror", "--follow", "--delete", "--quiet", "--from", &urls[0], "--to", &urls[1],
        ])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let (mut pushed, mut next_kill) = (0, RECORDS / 8);
    while pushed < RECORDS {
        let line = soon(lines.next_line()).await.unwrap().unwrap();
        pushed += usize::from(line.contains("pushed"));
        if pushed >= next_kill {
            // Which one it is does not matter: in turn.
            let which = next_kill / (RECORDS / 8) % 2;
            let killed = serving[which].take().unwrap();
            let _ = tokio::time::timeout(Duration::ZERO, killed.shutdown()).await;
            sleep(Duration::from_millis(300)).await;
            let of = [&store, &copy][which];
            serving[which] = Some(of.listen(&addresses[which]).await.unwrap());
            next_kill += RECORDS / 8;
        }
    }
    let rest = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let equal = async {
        while copy.cids() != store.cids() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    soon(equal).await;
    for cid in copy.cids() {
        copy.get(&cid).unwrap().verify(&cid).unwrap();
    }
    process.kill().await.unwrap();
    rest.await.unwrap();
}

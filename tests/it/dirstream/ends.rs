//! How a run ends, and what it says then.

use std::process::Stdio;
use std::time::Duration;

use agntcy_dir_stream::server::{Fault, Method, Store};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::support::clock::soon;
use crate::support::folder::Folder;
use crate::support::records::record;
use crate::support::sockets::free_address;
use crate::support::stores::{listen, slow_store, store_with};

use super::{Tool, ended};

#[tokio::test]
async fn a_server_that_is_not_there_is_said_at_once() {
    let tool = Tool::new("away").await;
    tool.ndjson("in.ndjson", 0..3);
    let url = format!("http://{}", free_address());
    let mut command = tool.command(["push", "in.ndjson", "--server", &url]);
    let ran = ended(command.spawn().unwrap()).await.ends_with(3);
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    ran.says(&format!("cannot connect to {url}"))
        .says("refused");
}

#[tokio::test]
async fn the_environment_says_where_the_server_is() {
    let tool = Tool::new("environment").await;
    tool.ndjson("in.ndjson", 0..3);
    let mut command = tool.command(["push", "in.ndjson"]);
    command.env("DIRECTORY_CLIENT_SERVER_ADDRESS", tool.serving.url());
    ended(command.spawn().unwrap()).await.ends_with(0);
    assert_eq!(tool.store.len(), 3);
}

#[tokio::test]
async fn a_wrong_token_is_said_before_anything_is_done() {
    let store = Store::builder()
        .authorize(|token| token == "sesame")
        .build();
    let tool = Tool::over("token", store).await;
    tool.ndjson("in.ndjson", 0..3);
    tool.folder.write("wrong", "open\n");
    tool.folder.write("right", "sesame\n");
    let push = |token| {
        [
            "push",
            "in.ndjson",
            "--token-without-tls",
            "--token-file",
            token,
        ]
    };
    let ran = tool.run(&push("wrong")).await.ends_with(2);
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    assert!(ran.out.is_empty(), "{ran:?}");
    ran.says("the server does not let us in");
    tool.run(&push("missing"))
        .await
        .ends_with(2)
        .says("missing");
    tool.run(&push("right")).await.ends_with(0);
    assert_eq!(tool.store.len(), 3);
}

#[tokio::test]
async fn what_is_wrong_with_the_command_line_is_said_before_anything_is_done() {
    let tool = Tool::new("usage").await;
    tool.ndjson("in.ndjson", 0..3);
    tool.run(&["push", "nowhere.ndjson"])
        .await
        .ends_with(2)
        .says("nowhere.ndjson: ");
    tool.run(&["push", "in.ndjson", "--window", "0"])
        .await
        .ends_with(2);
    tool.run(&["push"]).await.ends_with(2);
    tool.run(&["push", "."]).await.ends_with(0);
    std::fs::create_dir(tool.folder.path("empty")).unwrap();
    tool.run(&["push", "empty"])
        .await
        .ends_with(2)
        .says("there is no .json");
    tool.folder.write("junk", "no checkpoint");
    let ran = tool
        .run(&["push", "in.ndjson", "--checkpoint", "junk"])
        .await;
    ran.ends_with(2).says("cannot use the checkpoint");
    let ran = tool.run(&["push", "-", "--checkpoint", "cp"]).await;
    ran.ends_with(2).says("standard input is not");
    let ran = tool.run(&["pull", "in.ndjson", "--to", "all.gz"]).await;
    ran.ends_with(2).says("all.gz: it is no folder");
    let pull = [
        "pull",
        "in.ndjson",
        "--to",
        "all.ndjson",
        "--checkpoint",
        "cp",
    ];
    tool.run(&pull)
        .await
        .ends_with(2)
        .says("--checkpoint takes a folder");
}

#[tokio::test]
async fn a_server_that_goes_away_leaves_records_for_another_run() {
    let address = free_address();
    let store = Store::new();
    let tool = Tool {
        serving: store.listen(&address).await.unwrap(),
        folder: Folder::new("dirstream-goes-away"),
        store,
    };
    tool.ndjson("in.ndjson", 0..100);
    let push = [
        "push",
        "in.ndjson",
        "--checkpoint",
        "cp",
        "--retry-for",
        "1",
    ];
    let process = tool.start(&[&push[..], &["--rate", "50"]].concat());
    let has_some = async {
        while tool.store.len() < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(has_some).await;
    let Tool {
        folder,
        store,
        serving,
    } = tool;
    // What still runs is cut.
    let _ = tokio::time::timeout(Duration::ZERO, serving.shutdown()).await;
    let ran = ended(process).await.ends_with(3);
    let ran = ran.says("the same command goes on there");
    assert_eq!(ran.lines().len(), 100);
    let tool = Tool {
        serving: store.listen(&address).await.unwrap(),
        folder,
        store,
    };
    tool.run(&push).await.ends_with(0);
    assert_eq!(tool.store.len(), 100);
    assert!(!tool.folder.path("cp").exists(), "all is done");
}

/// Kills a push of these records in the middle, once it has printed so many lines.
async fn killed_push(tool: &Tool, push: &[&str], lines: usize) -> Vec<String> {
    let mut process = tool.start(push);
    let mut out = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut printed = Vec::new();
    while printed.len() < lines {
        printed.push(soon(out.next_line()).await.unwrap().unwrap());
    }
    process.kill().await.unwrap();
    while let Some(line) = soon(out.next_line()).await.unwrap() {
        printed.push(line);
    }
    printed
}

#[tokio::test]
async fn after_a_kill_the_next_run_goes_on() {
    let tool = Tool::over("killed", slow_store(Duration::from_millis(1))).await;
    tool.ndjson("in.ndjson", 0..2_000);
    let push = ["push", "in.ndjson", "--checkpoint", "cp", "--window", "64"];
    let first = killed_push(&tool, &push, 500).await;
    let ran = tool.run(&push).await.ends_with(0);
    let lines = ran.lines();
    let begins_at = lines[0]["index"].as_u64().unwrap() as usize;
    assert!(
        begins_at <= first.len() && begins_at + 64 >= first.len(),
        "{begins_at}"
    );
    assert_eq!(begins_at + lines.len(), 2_000);
    assert_eq!(tool.store.len(), 2_000);
}

#[tokio::test]
async fn a_file_of_results_has_each_input_once_after_a_kill() {
    let tool = Tool::over("killed-results", slow_store(Duration::from_millis(1))).await;
    tool.ndjson("in.ndjson", 0..1_000);
    let push = ["push", "in.ndjson", "--checkpoint", "cp", "--window", "16"];
    let push = [&push[..], &["--results", "results"]].concat();
    for end in [200, 500] {
        let mut process = tool.start(&push);
        let is_stored = async {
            while tool.store.len() < end {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        soon(is_stored).await;
        process.kill().await.unwrap();
    }
    // A line that was cut, as on a disk that was full.
    let results = tool.folder.path("results");
    let text = std::fs::read_to_string(&results).unwrap();
    std::fs::write(&results, text + "{\"index\": 9").unwrap();
    tool.run(&push).await.ends_with(0);
    let text = std::fs::read_to_string(&results).unwrap();
    let index =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["index"].as_u64();
    let indexes: Vec<_> = text.lines().filter_map(index).collect();
    assert!(indexes.iter().copied().eq(0..1_000), "{indexes:?}");
}

#[tokio::test]
async fn a_checkpoint_is_of_one_command_with_its_server_and_inputs() {
    let tool = Tool::over("changed", slow_store(Duration::from_millis(1))).await;
    tool.ndjson("in.ndjson", 0..2_000);
    let push = ["push", "in.ndjson", "--checkpoint", "cp", "--window", "16"];
    killed_push(&tool, &push, 100).await;
    let refused = "cannot use the checkpoint; if it is of another command";
    let publish = ["publish", "in.ndjson", "--checkpoint", "cp"];
    tool.run(&publish).await.ends_with(2).says(refused);
    let other = listen(&tool.store).await;
    let mut command = tool.command(push);
    let ran = ended(command.args(["--server", &other.url()]).spawn().unwrap()).await;
    ran.ends_with(2).says(refused);
    tool.ndjson("in.ndjson", 0..2_001);
    tool.run(&push).await.ends_with(2).says(refused);
}

#[tokio::test]
async fn a_file_that_has_no_results_is_not_gone_on_with() {
    let tool = Tool::over("no-results", slow_store(Duration::from_millis(1))).await;
    tool.ndjson("in.ndjson", 0..1_000);
    let push = ["push", "in.ndjson", "--checkpoint", "cp", "--window", "16"];
    killed_push(&tool, &push, 100).await;
    let text = "{\"precious\": 1}\n";
    let other = tool.folder.write("other", text);
    for results in ["other", "missing"] {
        let push = [&push[..], &["--results", results]].concat();
        tool.run(&push).await.ends_with(2).says(results);
    }
    assert_eq!(std::fs::read_to_string(other).unwrap(), text);
}

/// It has not begun, so nothing has to end.
#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_it_while_it_connects() {
    let tool = Tool::new("connecting").await;
    tool.ndjson("in.ndjson", 0..3);
    let (listener, url) = crate::support::sockets::listener().await;
    let process = tool
        .command(["push", "in.ndjson", "--server", &url])
        .spawn()
        .unwrap();
    let _silent = soon(listener.accept()).await.unwrap();
    send(&process, "TERM");
    ended(process).await.ends_with(130);
}

/// As a disk that is full.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_cannot_be_written_is_no_reason_to_forget_what_is_done() {
    let tool = Tool::new("full").await;
    tool.ndjson("in.ndjson", 0..100);
    let push = [
        "push",
        "in.ndjson",
        "--checkpoint",
        "cp",
        "--results",
        "/dev/full",
    ];
    let ran = tool.run(&push).await.ends_with(1);
    ran.says("cannot write the results").says("push: 1 ok");
    assert!(tool.folder.path("cp").exists());
    tool.run(&["push", "in.ndjson", "--checkpoint", "cp"])
        .await
        .ends_with(0);

    let mut command = tool.command(["search", "--count", "--server", &tool.serving.url()]);
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ran = ended(command.stdout(full).spawn().unwrap()).await;
    ran.ends_with(2).says("cannot write the count");
}

/// Standard error is for people, who may be gone.
#[cfg(unix)]
#[tokio::test]
async fn nobody_has_to_hear_what_is_said() {
    let tool = Tool::over("deaf", slow_store(Duration::from_millis(2))).await;
    tool.ndjson("in.ndjson", 0..5_000);
    let push = ["push", "in.ndjson", "--checkpoint", "cp", "--window", "16"];
    let mut process = tool.start(&push);
    drop(process.stderr.take());
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    soon(lines.next_line()).await.unwrap().unwrap();
    send(&process, "TERM");
    let mut count = 1;
    while soon(lines.next_line()).await.unwrap().is_some() {
        count += 1;
    }
    assert!(count < 5_000);
    ended(process).await.ends_with(130);
    assert!(tool.folder.path("cp").exists());
}

/// Who reads the records may be gone, too.
#[tokio::test]
async fn records_that_nobody_reads_end_a_pull() {
    let tool = Tool::over("pull-pipe", store_with(5_000).0).await;
    tool.folder.write(
        "cids",
        tool.store
            .cids()
            .iter()
            .map(|cid| format!("{cid}\n"))
            .collect::<String>(),
    );
    let mut process = tool.start(&["pull", "cids", "--to", "-"]);
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    soon(lines.next_line()).await.unwrap().unwrap();
    drop(lines);
    let ran = ended(process).await.ends_with(141);
    assert_eq!(ran.err, "");
}

#[cfg(unix)]
pub(super) fn send(process: &Child, signal: &str) {
    let kill = format!("kill -s {signal} {}", process.id().unwrap());
    let sent = std::process::Command::new("sh")
        .args(["-c", &kill])
        .status();
    assert!(sent.unwrap().success());
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_brings_to_an_end_what_is_in_flight() {
    for signal in ["INT", "TERM"] {
        let name = format!("signal-{signal}");
        let tool = Tool::over(&name, slow_store(Duration::from_millis(2))).await;
        tool.ndjson("in.ndjson", 0..5_000);
        let push = ["push", "in.ndjson", "--checkpoint", "cp", "--window", "32"];
        let mut process = tool.start(&push);
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut count = 0;
        while let Some(line) = soon(lines.next_line()).await.unwrap() {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&line["index"], line.get("error")), (&count.into(), None));
            count += 1;
            if count == 50 {
                send(&process, signal);
            }
        }
        assert!(count < 5_000);
        ended(process)
            .await
            .ends_with(130)
            .says(&format!("{count} are done"));
        assert_eq!(tool.store.len(), count);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let tool = Tool::new("second-signal").await;
    tool.ndjson("in.ndjson", 0..10);
    tool.store.inject(Fault::stall().on(Method::Push));
    let mut process = tool.start(&["push", "in.ndjson"]);
    soon(
        tool.store
            .wait_for(|calls| calls.iter().any(|call| call.method == Method::Push)),
    )
    .await;
    send(&process, "INT");
    let mut err = BufReader::new(process.stderr.take().unwrap()).lines();
    soon(err.next_line()).await.unwrap().unwrap();
    send(&process, "INT");
    // With time for what is in flight there would be a summary.
    assert_eq!(soon(err.next_line()).await.unwrap(), None);
    ended(process).await.ends_with(130);
}

#[tokio::test]
async fn who_stops_reading_is_no_matter() {
    let tool = Tool::new("pipe").await;
    tool.ndjson("in.ndjson", 0..5_000);
    let mut process = tool.start(&["push", "in.ndjson"]);
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    soon(lines.next_line()).await.unwrap().unwrap();
    drop(lines);
    let ran = ended(process).await.ends_with(141);
    assert_eq!(ran.err, "");
}

#[cfg(unix)]
#[tokio::test]
async fn a_store_is_served_until_it_is_told_to_end() {
    let tool = Tool::new("serve").await;
    let mut command = tool.command(["serve", "--listen", "127.0.0.1:0"]);
    let mut process = command.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let first = soon(lines.next_line()).await.unwrap().unwrap();
    let url = first.strip_prefix("listening on ").unwrap();
    let url = url.split(';').next().unwrap();
    let mut push = tool.command(["push", "-", "--server", url]);
    let mut push = push.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = push.stdin.take().unwrap();
    let line = record(0).to_string();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, line.as_bytes())
        .await
        .unwrap();
    drop(stdin);
    ended(push).await.ends_with(0);
    send(&process, "INT");
    let last = soon(lines.next_line()).await.unwrap().unwrap();
    assert_eq!(last, "1 records are gone");
    ended(process).await.ends_with(0);
    let mut command = tool.command(["serve", "--listen", "nowhere"]);
    ended(command.spawn().unwrap())
        .await
        .ends_with(2)
        .says("cannot listen on nowhere");
}

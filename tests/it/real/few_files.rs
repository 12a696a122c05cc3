//! The tool runs out of file descriptors, and has them again some seconds later.

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::*;

/// How many files a process may have open. What is open stays so.
fn allow(process: &Child, files: u64) {
    let id = Pid::from_raw(i32::try_from(process.id().unwrap()).unwrap());
    let limit = Rlimit {
        current: Some(files),
        maximum: Some(1024),
    };
    prlimit(id, Resource::Nofile, limit).unwrap();
}

/// Its server is restarted while it may open nothing: it can neither connect, nor read its token, nor open a file.
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_tool_that_may_open_no_file_for_a_while_loses_nothing() {
    let mut server = Server::start("few-files", &[]).await;
    let input: String = (0..COUNT)
        .map(|number| format!("{}\n", record(number)))
        .collect();
    std::fs::write(server.folder.join("in.ndjson"), input).unwrap();
    std::fs::write(server.folder.join("token"), "abc").unwrap();
    let push = [
        "push",
        "in.ndjson",
        "--checkpoint",
        "cp",
        "--window",
        "16",
        "--token-file",
        "token",
        "--token-without-tls",
    ];
    server.mark("schema-stall");
    let mut process = tool(&server, &push);
    let mut process = process.stderr(Stdio::piped()).spawn().unwrap();
    let mut results = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut said = BufReader::new(process.stderr.take().unwrap()).lines();

    // Killed while it writes, the server tears its own index. So while it validates.
    server.until_marked("schema-stalled").await;
    allow(&process, 3);
    server.kill().await;
    server.unmark("schema-stall");
    // So that it has to be read again.
    std::fs::write(server.folder.join("token"), "another").unwrap();
    server.restart().await;
    let began = cpu_ticks(&process);
    let waits = loop {
        let line = soon(said.next_line()).await.unwrap().unwrap();
        println!("{line}");
        if line.contains("waiting for the server") {
            break line;
        }
    };
    assert!(
        waits.contains("Too many open files (os error 24)"),
        "{waits}"
    );
    let took = cpu_ticks(&process) - began;
    assert!(
        took < 200,
        "it does not wait, it spins: {took} ticks of a hundredth"
    );
    allow(&process, 1024);

    let mut lines: Vec<serde_json::Value> = Vec::new();
    while let Some(line) = soon(results.next_line()).await.unwrap() {
        lines.push(serde_json::from_str(&line).unwrap());
    }
    while let Some(line) = soon(said.next_line()).await.unwrap() {
        println!("{line}");
    }
    assert_eq!(soon(process.wait()).await.unwrap().code(), Some(0));
    for (number, line) in lines.iter().enumerate() {
        let cid = cid(&record(number)).to_string();
        assert_eq!(
            (&line["index"], &line["cid"]),
            (&number.into(), &cid.into()),
            "{line}"
        );
    }
    assert_eq!(lines.len(), COUNT);
    all_there(&server.client().await, COUNT).await;
    assert!(!server.folder.join("cp").exists(), "it is done");
}

/// In hundredths of a second.
fn cpu_ticks(process: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id().unwrap())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let field = |place: usize| -> u64 { fields.split(' ').nth(place).unwrap().parse().unwrap() };
    field(11) + field(12)
}

/// With too few it cannot begin, or not connect, or not read its input. Whatever it is, it says so, and what it says of
/// each record is true.
#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_tool_that_begins_with_too_few_files_says_what_is_wrong() {
    const FEW: usize = 20;
    let server = Server::start("few-files-from-the-start", &[]).await;
    let client = server.client().await;
    let input: String = (0..FEW)
        .map(|number| format!("{}\n", record(number)))
        .collect();
    std::fs::write(server.folder.join("in.ndjson"), input).unwrap();
    let push = ["push", "in.ndjson"];
    let mut failures = BTreeSet::new();
    for files in 4.. {
        let there = soon(cids(FEW).exists_in(&client).collect::<Vec<_>>()).await;
        assert!(
            there.iter().all(|exists| !exists.as_ref().unwrap().exists),
            "it said nothing of them"
        );
        let tool = tool(&server, &push);
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")])
            .arg(tool.as_std().get_program())
            .args(tool.as_std().get_args())
            .current_dir(&server.folder)
            .kill_on_drop(true);
        let ran = soon(command.output()).await.unwrap();
        let (out, err) = (
            String::from_utf8(ran.stdout).unwrap(),
            String::from_utf8(ran.stderr).unwrap(),
        );
        if ran.status.code() == Some(0) {
            assert_eq!(out.lines().count(), FEW);
            break;
        }
        assert!(err.contains("Too many open files"), "{files}: {err}");
        let is_of_tool = matches!(ran.status.code(), Some(2 | 3));
        assert!(!is_of_tool || err.contains("ulimit -n"), "{files}: {err}");
        assert!(
            out.lines().all(|line| line.contains("\"error\"")),
            "{files}: {out}"
        );
        failures.insert(ran.status.code());
        println!("{files}: {}", err.lines().last().unwrap_or_default());
    }
    // The server away, and an input that cannot be read.
    assert!(
        failures.is_superset(&BTreeSet::from([Some(3), Some(1)])),
        "{failures:?}"
    );
    all_there(&client, FEW).await;
}

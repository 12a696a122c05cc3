//! What goes in: files, folders, patterns, standard input, in each form.

use std::io::Write as _;

use crate::support::records::{cid, record};

use super::{Tool, three_hundred};

#[tokio::test]
async fn of_three_hundred_records_each_has_a_line_that_says_where_it_was() {
    let tool = Tool::new("three-hundred").await;
    tool.folder.write("in.ndjson", three_hundred());
    let ran = tool
        .run(&["push", "in.ndjson", "--no-check"])
        .await
        .ends_with(1);
    let lines = ran.lines();
    assert_eq!(lines.len(), 300);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["index"], index);
        assert_eq!(
            (&line["file"], &line["line"]),
            (&"in.ndjson".into(), &(index + 1).into())
        );
        let is_bad = index % 10 == 4 || index % 50 == 17;
        match is_bad {
            false => assert_eq!(line["cid"], cid(&record(index)).to_string()),
            true => {
                assert_eq!(line["error"]["kind"], "rejected", "{line}");
                assert!(line["error"]["attempts"].as_u64() >= Some(1), "{line}");
                assert_eq!(line["cid"], serde_json::Value::Null, "{line}");
            }
        }
    }
    assert_eq!(tool.store.len(), 264);
    assert!(ran.err.contains("push: 264 ok, 36 failed"), "{}", ran.err);
    assert!(
        ran.err.contains("30 rejected, such as in.ndjson:5:"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn what_no_server_takes_is_found_before_it_is_sent() {
    let tool = Tool::new("checked").await;
    tool.folder.write("in.ndjson", three_hundred());
    let ran = tool.run(&["push", "in.ndjson"]).await.ends_with(1);
    let lines = ran.lines();
    let invalid = lines
        .iter()
        .filter(|line| line["error"]["kind"] == "invalid");
    assert_eq!(invalid.count(), 36);
    assert_eq!(
        lines[17]["error"]["message"],
        "invalid: the record has no schema_version"
    );
    assert_eq!(tool.store.len(), 264);
}

#[tokio::test]
async fn a_folder_is_read_in_order_with_what_is_in_it() {
    let tool = Tool::new("folder").await;
    let folder = tool.folder.path("in");
    std::fs::create_dir_all(folder.join("b/deep")).unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(folder.join(name), content).unwrap();
    write("a.json", record(0).to_string().as_bytes());
    let array = format!("[{},\n {},\n 7]", record(1), record(2));
    write("b/1.json", array.as_bytes());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    write!(gzip, "{}\r\n\r\n{}", record(3), record(4)).unwrap();
    write("b/2.ndjson.gz", &gzip.finish().unwrap());
    let zstd = zstd::encode_all(format!("\u{feff}{}\n", record(5)).as_bytes(), 1).unwrap();
    // What is in it counts, and not its name.
    write("b/deep/x.jsonl", &zstd);
    let pretty = serde_json::to_string_pretty(&record(6)).unwrap();
    write("c.json", format!("{pretty}\n{pretty}").as_bytes());
    write("c.txt", b"not read");
    write(".hidden.json", b"not read");

    let ran = tool.run(&["push", "in"]).await.ends_with(1);
    let places: Vec<_> = ran
        .lines()
        .iter()
        .map(|line| {
            (
                line["file"].as_str().unwrap().to_owned(),
                line["line"].as_u64().unwrap(),
            )
        })
        .collect();
    let place = |file: &str, line| (format!("in/{file}"), line);
    assert_eq!(
        places,
        [
            place("a.json", 1),
            place("b/1.json", 1),
            place("b/1.json", 2),
            place("b/1.json", 3),
            place("b/2.ndjson.gz", 1),
            place("b/2.ndjson.gz", 3),
            place("b/deep/x.jsonl", 1),
            place("c.json", 1),
            place("c.json", pretty.lines().count() as u64 + 1),
        ]
    );
    let mut stored: Vec<_> = (0..7).map(|number| cid(&record(number))).collect();
    stored.sort();
    assert_eq!(tool.store.cids(), stored);
}

#[tokio::test]
async fn a_pattern_is_all_that_matches() {
    let tool = Tool::new("pattern").await;
    for number in 0..3 {
        tool.ndjson(&format!("{number}.ndjson"), [number]);
    }
    tool.run(&["push", "[02].ndjson"]).await.ends_with(0);
    assert_eq!(tool.store.len(), 2);
    tool.run(&["push", "x*.ndjson"])
        .await
        .ends_with(2)
        .says("no file matches");
}

#[tokio::test]
async fn bad_lines_fail_alone() {
    let tool = Tool::new("bad-lines").await;
    let input = format!("{}\n[1]\n{{\"name\": \n\n\u{1}\n{}", record(0), record(1));
    let ran = tool.fed(&["push", "-"], input).await.ends_with(1);
    let lines = ran.lines();
    let numbers: Vec<_> = lines
        .iter()
        .map(|line| line["line"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 5, 6]);
    assert_eq!(lines[1]["error"]["stage"], "input");
    assert_eq!(
        lines[1]["error"]["message"],
        "invalid: a record is a JSON object, and this is not"
    );
    assert_eq!(tool.store.len(), 2);
}

#[tokio::test]
async fn a_file_that_breaks_off_is_a_failure_and_the_next_is_read() {
    let tool = Tool::new("broken-file").await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    writeln!(gzip, "{}", record(0)).unwrap();
    let gzip = gzip.finish().unwrap();
    tool.folder.write("a.json.gz", &gzip[..gzip.len() - 6]);
    tool.ndjson("b.json", [1]);
    let ran = tool
        .run(&["push", "a.json.gz", "b.json"])
        .await
        .ends_with(1);
    let lines = ran.lines();
    assert_eq!(lines.len(), 3, "{ran:?}");
    let message = lines[1]["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("cannot be read: "), "{message}");
    assert_eq!(tool.store.len(), 2);
}

#[tokio::test]
async fn what_is_written_is_not_read() {
    let tool = Tool::new("own-files").await;
    let file = tool.ndjson("in.ndjson", 0..3);
    let text = std::fs::read(&file).unwrap();
    for arguments in [
        &["push", "in.ndjson", "--results", "in.ndjson"][..],
        &["pull", "in.ndjson", "--to", "in.ndjson"],
        &["push", "in.ndjson", "--checkpoint", "in.ndjson"],
    ] {
        let ran = tool.run(arguments).await.ends_with(2);
        ran.says("in.ndjson is read and written");
        assert_eq!(std::fs::read(&file).unwrap(), text);
    }
    for arguments in [
        &["push", "in.ndjson", "--results", "x", "--checkpoint", "x"][..],
        &[
            "push",
            "in.ndjson",
            "--results",
            "x.md",
            "--report",
            "./x.md",
        ],
        &[
            "pull",
            "in.ndjson",
            "--to",
            "x.ndjson",
            "--results",
            "x.ndjson",
        ],
    ] {
        let ran = tool.run(arguments).await.ends_with(2);
        ran.says("is written twice");
    }
    let mut command = tool.command(["push", "-", "--results", "in.ndjson"]);
    command.stdin(std::fs::File::open(&file).unwrap());
    let ran = super::ended(command.spawn().unwrap()).await.ends_with(2);
    ran.says("standard input is read and written");
    assert_eq!(std::fs::read(&file).unwrap(), text);
    // In a folder it is left out: standard output, too.
    for _ in 0..2 {
        let results = ["--results", "results.ndjson", "--checkpoint", "cp.json"];
        let push = [&["push", "."][..], &results].concat();
        tool.run(&push).await.ends_with(0).says("push: 3 ok");
    }
    std::fs::remove_file(tool.folder.path("results.ndjson")).unwrap();
    let out = std::fs::File::create(tool.folder.path("out.ndjson")).unwrap();
    let mut command = tool.command(["push", ".", "--server", &tool.serving.url()]);
    let ran = super::ended(command.stdout(out).spawn().unwrap()).await;
    ran.ends_with(0).says("push: 3 ok");
}

#[cfg(unix)]
#[tokio::test]
async fn what_cannot_be_looked_at_in_a_folder_fails_alone() {
    let tool = Tool::new("links").await;
    let folder = tool.folder.path("in");
    std::fs::create_dir(&folder).unwrap();
    tool.ndjson("in/b.json", [0]);
    tool.folder.write("in/c.json", b"\0\x01\n\x02\n");
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(from, folder.join(to)).unwrap();
    link("nowhere", "a.json");
    link("nowhere", "readme");
    link(".", "loop");
    let lines = tool.run(&["push", "in"]).await.ends_with(1).lines();
    let files: Vec<_> = lines
        .iter()
        .map(|line| line["file"].as_str().unwrap())
        .collect();
    assert_eq!(files, ["in/a.json", "in/b.json", "in/c.json", "in/loop"]);
    assert_eq!(
        lines[2]["error"]["message"],
        "cannot be read: it is no text"
    );
    assert_eq!(lines[2].get("line"), None);
}

#[tokio::test]
async fn numbers_that_a_server_would_change_can_be_refused() {
    let tool = Tool::new("strict").await;
    let text = r#"{"name": "a", "schema_version": "1.0.0", "n": 12345678901234567891}"#;
    let ran = tool
        .fed(&["push", "-", "--strict"], text)
        .await
        .ends_with(1);
    assert_eq!(ran.lines()[0]["error"]["kind"], "invalid");
    tool.fed(&["push", "-"], text).await.ends_with(0);
}

#[tokio::test]
async fn a_dry_run_pushes_nothing_and_says_what_it_would() {
    let tool = Tool::new("dry").await;
    tool.store.insert(record(0)).unwrap();
    let input = format!("{}\n{}\n{{}}\n", record(0), record(1));
    let ran = tool
        .fed(&["push", "-", "--dry-run", "--skip-stored"], &input)
        .await;
    let lines = ran.ends_with(1).lines();
    assert_eq!(lines[0]["already_stored"], true);
    assert_eq!(lines[0].get("would"), None);
    assert_eq!(lines[1]["would"], "push");
    assert_eq!(lines[1]["cid"], cid(&record(1)).to_string());
    assert_eq!(lines[2]["error"]["kind"], "invalid");
    // Without the question it takes no server.
    let ran = tool
        .fed(&["push", "-", "--dry-run"], &input)
        .await
        .ends_with(1);
    assert_eq!(ran.lines()[0]["would"], "push");
    assert_eq!(tool.store.len(), 1);
}

//! Signing, publishing, and reports.

use crate::support::records::{cid, record};

use super::{Tool, three_hundred};

const SIGN: &str = r#"cat >"signed-$DIR_CID"
echo "{\"type\": \"agntcy.dir.sign.v1.Signature\", \"data\": {\"signature\": \"of $DIR_CID\"}}""#;

#[tokio::test]
async fn what_is_pushed_is_signed_by_a_program_and_published() {
    let tool = Tool::new("sign").await;
    tool.ndjson("in.ndjson", 0..10);
    tool.folder.write("sign", SIGN);
    let push = ["push", "in.ndjson", "--sign-with", "sh ./sign", "--publish"];
    let lines = tool.run(&push).await.ends_with(0).lines();
    assert!(
        lines.iter().all(|line| line["publication"].is_string()),
        "{lines:?}"
    );
    for number in 0..10 {
        let cid = cid(&record(number));
        let signatures = tool.store.referrers(&cid);
        assert_eq!(signatures.len(), 1);
        assert!(signatures[0].data.to_string().contains(&cid.to_string()));
        // It was given the record.
        let given = std::fs::read_to_string(tool.folder.path(&format!("signed-{cid}"))).unwrap();
        assert_eq!(given, record(number).to_string());
    }

    // What is signed is not signed again.
    let lines = tool
        .run(&["push", "in.ndjson", "--sign-with", "exit 1"])
        .await
        .ends_with(0)
        .lines();
    assert!(
        lines.iter().all(|line| line["already_stored"] == true),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_program_that_does_not_sign_fails_its_record_alone() {
    let tool = Tool::new("sign-fails").await;
    tool.ndjson("in.ndjson", 0..4);
    let bad = [cid(&record(0)), cid(&record(1)), cid(&record(2))];
    let sign = format!(
        r#"case $DIR_CID in
{}) echo no key >&2; exit 3;;
{}) echo nonsense;;
{}) sleep 600;;
*) sh ./sign;;
esac"#,
        bad[0], bad[1], bad[2]
    );
    tool.folder.write("sign", SIGN);
    let push = [
        "push",
        "in.ndjson",
        "--sign-timeout",
        "5",
        "--sign-with",
        &sign,
    ];
    let lines = tool.run(&push).await.ends_with(1).lines();
    let messages: Vec<_> = lines
        .iter()
        .map(|line| line["error"]["message"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(messages[0], "pushed, not signed: exit status: 3: no key");
    assert!(
        messages[1].starts_with("pushed, not signed: it gave no referrer: "),
        "{messages:?}"
    );
    assert_eq!(messages[2], "pushed, not signed: it took longer than 5 s");
    assert_eq!(lines[0]["error"]["stage"], "sign");
    assert_eq!(lines[3]["cid"], cid(&record(3)).to_string());
    assert_eq!(tool.store.len(), 4);
}

#[tokio::test]
async fn what_comes_twice_is_signed_once() {
    let tool = Tool::new("sign-twice").await;
    tool.ndjson("in.ndjson", [0, 0, 1]);
    tool.folder.write("sign", SIGN);
    let push = ["push", "in.ndjson", "--sign-with", "sh ./sign"];
    let lines = tool.run(&push).await.ends_with(0).lines();
    assert!(lines.iter().all(|line| line["signed"] == true), "{lines:?}");
    assert_eq!(tool.store.referrers(&cid(&record(0))).len(), 1);
}

/// Neither what holds the output open, nor what runs on when the time is up.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_that_signs_leaves_nothing_running() {
    let tool = Tool::new("sign-leaves").await;
    tool.ndjson("in.ndjson", 0..2);
    tool.folder.write("sign", SIGN);
    let hangs = cid(&record(0));
    let sign = format!(
        "sleep 600 & echo $! >>children; if [ $DIR_CID = {hangs} ]; then sleep 600; fi; sh ./sign"
    );
    let push = [
        "push",
        "in.ndjson",
        "--sign-timeout",
        "5",
        "--sign-with",
        &sign,
    ];
    let lines = tool.run(&push).await.ends_with(1).lines();
    assert_eq!(
        lines[0]["error"]["message"],
        "pushed, not signed: it took longer than 5 s"
    );
    assert_eq!(lines[1]["signed"], true);
    let children = std::fs::read_to_string(tool.folder.path("children")).unwrap();
    assert_eq!(children.lines().count(), 2);
    let is_gone = async || {
        let runs = |child: &str| {
            let state = std::fs::read_to_string(format!("/proc/{child}/stat"));
            // Behind its name. A zombie runs no more.
            state.is_ok_and(|state| !state.rsplit(')').next().unwrap().starts_with(" Z"))
        };
        while children.lines().any(runs) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    crate::support::clock::soon(is_gone()).await;
}

#[tokio::test]
async fn a_program_may_give_too_much() {
    let tool = Tool::new("sign-much").await;
    tool.ndjson("in.ndjson", 0..1);
    let push = [
        "push",
        "in.ndjson",
        "--sign-with",
        "head -c 70000000 /dev/zero",
    ];
    let lines = tool.run(&push).await.ends_with(1).lines();
    assert_eq!(
        lines[0]["error"]["message"],
        "pushed, not signed: it gave more than 64 MiB"
    );
}

#[tokio::test]
async fn a_report_has_counts_and_causes_with_examples() {
    let tool = Tool::new("report").await;
    tool.folder
        .write("in.ndjson", format!("{}<b>|\n", three_hundred()));
    for report in ["report.html", "report.md"] {
        let push = ["push", "in.ndjson", "--no-check", "--report", report];
        tool.run(&push).await.ends_with(1);
        let text = std::fs::read_to_string(tool.folder.path(report)).unwrap();
        for words in ["264", "37", "in.ndjson:5", "in.ndjson:301", "rejected"] {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        assert!(!text.contains("<b>|"), "{text}");
    }
    let html = std::fs::read_to_string(tool.folder.path("report.html")).unwrap();
    assert!(html.contains("<polyline"), "{html}");
    tool.run(&["push", "in.ndjson", "--report", "report.pdf"])
        .await
        .ends_with(2)
        .says("a report is .html or .md");
    tool.run(&["push", "in.ndjson", "--report", "nowhere/report.md"])
        .await
        .ends_with(2)
        .says("nowhere: there is no such folder");
}

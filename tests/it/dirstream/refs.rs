//! Commands that take CIDs: pull, lookup, delete, publish, referrers; and search, which gives them.

use agntcy_dir_stream::Record;

use crate::support::records::{cid, record};

use super::Tool;

/// A store with some records, and a file with what pushing them has printed.
async fn pushed(name: &str, count: usize) -> Tool {
    let tool = Tool::new(name).await;
    tool.ndjson("in.ndjson", 0..count);
    tool.run(&["push", "in.ndjson", "--results", "pushed"])
        .await
        .ends_with(0);
    tool
}

#[tokio::test]
async fn what_was_pushed_is_pulled_by_the_lines_that_it_printed() {
    let tool = pushed("pull", 20).await;
    let ran = tool.run(&["pull", "pushed"]).await.ends_with(0);
    for (index, line) in ran.lines().iter().enumerate() {
        let pulled = Record::from_json(line["record"].to_string()).unwrap();
        assert_eq!(pulled.cid().unwrap(), cid(&record(index)));
    }

    tool.run(&["pull", "pushed", "--to", "copies"])
        .await
        .ends_with(0);
    for index in 0..20 {
        let file = format!("copies/{}.json", cid(&record(index)));
        let copy = std::fs::read(tool.folder.path(&file)).unwrap();
        assert_eq!(
            Record::from_json(copy).unwrap().cid().unwrap(),
            cid(&record(index))
        );
    }
    assert_eq!(
        std::fs::read_dir(tool.folder.path("copies"))
            .unwrap()
            .count(),
        20
    );

    tool.run(&["pull", "pushed", "--to", "all.ndjson"])
        .await
        .ends_with(0);
    let ran = tool
        .run(&["pull", "pushed", "--to", "-"])
        .await
        .ends_with(0);
    let file = std::fs::read_to_string(tool.folder.path("all.ndjson")).unwrap();
    assert_eq!(ran.out, file);
    assert_eq!(file.lines().count(), 20);
    // And goes in again.
    tool.store.clear();
    tool.fed(&["push", "-"], file).await.ends_with(0);
    assert_eq!(tool.store.len(), 20);
}

#[tokio::test]
async fn what_is_not_there_is_a_failure_with_its_cid() {
    let tool = pushed("missing", 2).await;
    let (there, missing) = (cid(&record(0)).to_string(), cid(&record(9)).to_string());
    let list = format!("{there}\n\"{missing}\"\nnonsense\n{{}}\n");
    for command in ["pull", "lookup"] {
        let lines = tool.fed(&[command, "-"], &list).await.ends_with(1).lines();
        assert_eq!(lines[0]["cid"], *there);
        assert_eq!(lines[1]["error"]["kind"], "not_found");
        assert_eq!(lines[1]["error"]["cid"], *missing);
        assert_eq!(
            lines[2]["error"]["message"],
            "invalid: `nonsense` is not a CID"
        );
        assert_eq!(lines.len(), 4);
    }
    let ran = tool
        .run(&["lookup", "--exists", &there, &missing])
        .await
        .ends_with(0);
    let exist: Vec<_> = ran
        .lines()
        .iter()
        .map(|line| line["exists"].clone())
        .collect();
    assert_eq!(exist, [true, false]);
    let ran = tool.run(&["lookup", &there]).await.ends_with(0);
    assert_eq!(ran.lines()[0]["schema_version"], "1.0.0");
}

#[tokio::test]
async fn what_is_deleted_is_gone() {
    let tool = pushed("delete", 10).await;
    let gone = cid(&record(3)).to_string();
    tool.run(&["delete", &gone]).await.ends_with(0);
    assert_eq!(tool.store.len(), 9);
    tool.run(&["delete", "pushed"]).await.ends_with(0);
    assert!(tool.store.is_empty());
}

#[tokio::test]
async fn a_search_gives_what_the_others_take() {
    let tool = pushed("search", 30).await;
    let found = tool.run(&["search", "name=agent-1*"]).await.ends_with(0);
    assert_eq!(found.lines().len(), 11);
    let found = tool
        .run(&["search", "name=agent-1*", "--not", "name=agent-11"])
        .await;
    let found = found.ends_with(0);
    assert_eq!(found.lines().len(), 10);
    let pulled = tool.fed(&["pull", "-"], &found.out).await.ends_with(0);
    assert_eq!(pulled.lines().len(), 10);

    let ran = tool.run(&["search", "--count"]).await.ends_with(0);
    assert_eq!(ran.out, "30\n");
    let ran = tool
        .run(&["search", "--limit", "7", "--sort", "recency"])
        .await
        .ends_with(0);
    assert_eq!(ran.lines().len(), 7);
    tool.run(&["search", "nam=x"])
        .await
        .ends_with(2)
        .says("`nam` is no kind of query");
    tool.run(&["search", "name"])
        .await
        .ends_with(2)
        .says("`name` is not KIND=VALUE");
}

#[tokio::test]
async fn records_are_published_and_taken_back() {
    let tool = pushed("publish", 5).await;
    let lines = tool.run(&["publish", "pushed"]).await.ends_with(0).lines();
    assert!(
        lines.iter().all(|line| line["publication"].is_string()),
        "{lines:?}"
    );
    tool.store.run_publications();
    assert!(tool.store.is_published(&cid(&record(4))));
    tool.run(&["publish", "--undo", "pushed"])
        .await
        .ends_with(0);
    assert!(!tool.store.is_published(&cid(&record(4))));
}

#[tokio::test]
async fn referrers_go_in_and_out_and_away() {
    let tool = pushed("referrers", 2).await;
    let signed = cid(&record(0));
    let referrer = format!(
        r#"{{"cid": "{signed}", "type": "agntcy.dir.sign.v1.Signature", "data": {{"signature": "abc"}}}}"#
    );
    let input = format!("{referrer}\n{{\"type\": \"x\"}}\n");
    let ran = tool
        .fed(&["referrers", "push", "-"], input)
        .await
        .ends_with(1);
    assert_eq!(ran.lines()[0]["cid"], signed.to_string());
    let message = ran.lines()[1]["error"]["message"].clone();
    assert_eq!(message, "there is no `cid`: of which record is it?");

    let ran = tool
        .run(&["referrers", "pull", "pushed"])
        .await
        .ends_with(0);
    let lines = ran.lines();
    assert_eq!(lines[0]["referrers"][0]["data"]["signature"], "abc");
    assert_eq!(lines[1]["referrers"], serde_json::json!([]));
    // As it came out, it goes in.
    let again = lines[0]["referrers"][0].to_string();
    tool.fed(&["referrers", "push", "-"], again)
        .await
        .ends_with(0);

    let of_type = "agntcy.dir.sign.v1.PublicKey";
    tool.run(&["referrers", "delete", "pushed", "--type", of_type])
        .await
        .ends_with(0);
    assert_eq!(tool.store.referrers(&signed).len(), 1);
    tool.run(&["referrers", "delete", "pushed"])
        .await
        .ends_with(0);
    assert!(tool.store.referrers(&signed).is_empty());
}

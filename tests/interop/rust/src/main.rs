//! The DIR SDK for Rust against the embedded store, and the SDK's channel under our adapters: so
//! every way of authenticating that the SDK has is open to them.

use agntcy_dir::client::transport::create_channel;
use agntcy_dir::models::core_v1;
use agntcy_dir::{AuthMode, Client as Sdk, Config};
use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::server::Store;
use agntcy_dir_stream::{ErrorKind, MAX_RECORD_LEN};
use anyhow::ensure;
use futures::{StreamExt, stream};

fn record(number: usize) -> Record {
    let text = format!(r#"{{"name":"agent-{number}","schema_version":"1.0.0","n":{number}}}"#);
    text.parse().expect("it is JSON")
}

/// The same in the SDK's own type.
fn as_sdk(record: &Record) -> anyhow::Result<core_v1::Record> {
    let data: serde_json::Value = record.try_into()?;
    Ok(serde_json::from_value(serde_json::json!({ "data": data }))?)
}

fn sdk_ref(cid: impl ToString) -> core_v1::RecordRef {
    core_v1::RecordRef {
        cid: cid.to_string(),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::new();
    let serving = store.listen("127.0.0.1:0").await?;
    let config = Config {
        server_address: serving.url(),
        auth_mode: AuthMode::Insecure,
        ..Config::from_lookup("NOTHING_", |_| None)?
    };
    sdk_against_store(&store, config.clone()).await?;
    store.clear();
    adapters_over_sdk_channel(&store, &config).await?;
    println!("the SDK for Rust and this crate agree");
    Ok(())
}

async fn sdk_against_store(store: &Store, config: Config) -> anyhow::Result<()> {
    let sdk = Sdk::new(config).await?;
    let records: Vec<Record> = (0..1_000).map(record).collect();
    let pushed = sdk
        .push(records.iter().map(as_sdk).collect::<anyhow::Result<_>>()?)
        .await?;
    ensure!(pushed.len() == records.len(), "pushed {}", pushed.len());
    for (answer, record) in pushed.iter().zip(&records) {
        ensure!(answer.cid == record.cid()?.to_string(), "another CID");
    }
    let found = sdk.lookup(pushed.clone()).await?;
    ensure!(found.len() == records.len(), "found {}", found.len());
    ensure!(found[0].schema_version == "1.0.0", "{:?}", found[0]);
    let pulled = sdk.pull(pushed.clone()).await?;
    for (answer, record) in pulled.iter().zip(&records) {
        ensure!(*answer == as_sdk(record)?, "another record");
    }
    ensure!(pulled.len() == records.len(), "pulled {}", pulled.len());

    // Each error reaches it as a real server's does.
    let words = |error: agntcy_dir::Error| error.to_string();
    let no_data = sdk.push(vec![core_v1::Record { data: None }]).await;
    let no_data = no_data.map_err(words).expect_err("no data");
    ensure!(no_data.contains("record is nil"), "{no_data}");
    let again = sdk.push(vec![as_sdk(&records[0])?]).await;
    let again = again.map_err(words).expect_err("stored already");
    ensure!(again.contains("already exists"), "{again}");
    let missing = sdk.pull(vec![sdk_ref(record(5_000).cid()?)]).await;
    let missing = missing.map_err(words).expect_err("missing");
    ensure!(missing.contains("not found"), "{missing}");
    let empty = sdk.lookup(vec![sdk_ref("")]).await;
    let empty = empty.map_err(words).expect_err("empty");
    ensure!(empty.contains("record cid is required"), "{empty}");

    // As large as can be, and a byte more.
    for (more, fits) in [(0, true), (1, false)] {
        let fill = |len: usize| -> anyhow::Result<Record> {
            let text = "x".repeat(len);
            Ok(Record::from_json(format!(
                r#"{{"name":"large","schema_version":"1.0.0","fill":"{text}"}}"#
            ))?)
        };
        let around = fill(MAX_RECORD_LEN)?.encoded_len() - MAX_RECORD_LEN;
        let large = fill(MAX_RECORD_LEN - around + more)?;
        let result = sdk.push(vec![as_sdk(&large)?]).await;
        ensure!(
            result.is_ok() == fits,
            "{} bytes: {result:?}",
            large.encoded_len()
        );
    }

    sdk.delete(pushed).await?;
    ensure!(
        store.len() == 1,
        "the large one is left, and {}",
        store.len()
    );
    Ok(())
}

async fn adapters_over_sdk_channel(store: &Store, config: &Config) -> anyhow::Result<()> {
    let client = Client::from_service(create_channel(config, None).await?);
    let records = (0..1_000).map(|number| match number % 10 {
        3 => Record::from_json(format!(r#"{{"schema_version":"1.0.0","n":{number}}}"#)),
        _ => Ok(record(number)),
    });
    let records: Vec<Record> = records.collect::<Result<_, _>>()?;
    let results: Vec<_> = stream::iter(records.clone())
        .push_to(&client)
        .collect()
        .await;
    ensure!(
        results.len() == 1_000 && store.len() == 900,
        "{}",
        store.len()
    );
    for (number, result) in results.iter().enumerate() {
        match result {
            Ok(_) => ensure!(number % 10 != 3, "{number}"),
            Err(failed) => ensure!(failed.kind() == ErrorKind::Rejected && number % 10 == 3),
        }
    }
    let refs = || stream::iter(&records);
    let found = refs()
        .lookup_in(&client)
        .filter(|result| std::future::ready(result.is_ok()));
    ensure!(found.count().await == 900);
    let pulled = refs()
        .pull_from(&client)
        .filter(|result| std::future::ready(result.is_ok()));
    ensure!(pulled.count().await == 900);
    let deleted = refs()
        .delete_from(&client)
        .filter(|result| std::future::ready(result.is_ok()));
    ensure!(deleted.count().await == 1_000 && store.is_empty());
    Ok(())
}

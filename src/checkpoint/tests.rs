//! What needs a disk that fails, or a look at the thread.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use super::disk::Disk;
use super::line::{Line, encode};
use super::run::Followed;
use super::*;

fn path(name: &str) -> PathBuf {
    let name = format!("checkpoint-{name}-{}", std::process::id());
    std::env::temp_dir().join(name)
}

/// A checkpoint whose file takes no writes.
fn read_only(name: &str) -> (PathBuf, Checkpoint) {
    let path = path(name);
    fs::write(&path, encode(1, 0, "numbers")).unwrap();
    let disk = Disk::new(File::open(&path).unwrap(), &path);
    let line = Line {
        number: 1,
        done: 0,
        identity: "numbers".to_owned(),
    };
    (path, Checkpoint(Followed::new(disk, line)))
}

#[test]
fn an_error_of_the_disk_is_given_once_and_stops_nothing() {
    let (path, checkpoint) = read_only("error");
    let mut run = checkpoint.follow().unwrap();
    for next in 0..100 {
        run.answered_below(next);
        assert!(run.may_take(next, next, 8));
    }
    drop(run);
    assert_eq!(checkpoint.done(), 99);
    let error = checkpoint.save().unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("checkpoint {}: ", path.display())),
        "{error}"
    );
    // It still cannot be written, and is tried again.
    checkpoint.save().unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), encode(1, 0, "numbers"));
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_write_that_has_failed_is_made_again_in_the_same_place() {
    let path = path("again");
    let line = Line {
        number: 7,
        done: 70,
        identity: "numbers".to_owned(),
    };
    fs::write(
        &path,
        [encode(6, 60, "numbers"), encode(7, 70, "numbers")].concat(),
    )
    .unwrap();
    let followed = Followed::new(Disk::new(File::open(&path).unwrap(), &path), line);
    let mut run = followed.run().unwrap();
    run.answered_below(80);
    assert!(run.may_take(100, 100, 1));
    run.answered_below(90);
    drop(run);
    followed.save().unwrap_err();
    assert_eq!(followed.written_number(), 7);
    fs::remove_file(&path).unwrap();
}

/// With an adapter.
#[cfg(feature = "server")]
#[tokio::test]
async fn a_stream_goes_on_without_its_checkpoint() {
    use crate::prelude::*;
    use futures::stream;

    let (path, checkpoint) = read_only("stream");
    let store = crate::server::Store::new();
    let record = |n| Record::from_json(format!(r#"{{"name": "{n}", "schema_version": "1"}}"#));
    let records = stream::iter((0..100).map(|n| record(n).unwrap()));
    let options = crate::Options::new().window(8);
    let results = records.push_to_with(&store.client(), &options);
    let summary = results.resume_from(&checkpoint).finish().await;
    assert_eq!((summary.stats.succeeded, checkpoint.done()), (100, 100));
    checkpoint.save().unwrap_err();
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_thread_brings_to_the_disk_what_is_written_and_ends_with_the_checkpoint() {
    let path = path("thread");
    let (disk, line) = Disk::open(&path, "numbers").unwrap();
    assert!(disk.write(line.number + 1, 5, "numbers"));
    while disk.is_new() {
        thread::yield_now();
    }
    // It rests for a second now.
    assert!(disk.write(line.number + 2, 6, "numbers"));
    disk.close();
    while Arc::strong_count(&disk) > 1 {
        thread::yield_now();
    }
    assert!(!disk.is_new());
    fs::remove_file(&path).unwrap();
}

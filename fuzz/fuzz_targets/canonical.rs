//! Canonical JSON and CIDs, beside a reader and a writer that share nothing with the crate.
//!
//! The first byte says whether the others are a Record message, or choose one that is written oddly.
#![no_main]

use agntcy_dir_stream::Record;
use agntcy_dir_stream_fuzz::tree::Tree;
use agntcy_dir_stream_fuzz::{odd_wire, slow_cid, slow_wire};
use arbitrary::Unstructured;
use libfuzzer_sys::{Corpus, fuzz_target};
use prost::Message as _;

/// The message as `prost` has it. It refuses two things that the others take, as Go does: a field of another wire type
/// than its number's, and messages that are deeper than 100.
#[derive(Clone, PartialEq, prost::Message)]
struct Theirs {
    #[prost(message, optional, tag = "1")]
    data: Option<prost_types::Struct>,
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((form, data)) = data.split_first() else {
        return Corpus::Reject;
    };
    if form % 2 == 0 {
        compare(data);
        return Corpus::Keep;
    }
    match odd_wire::record(&mut Unstructured::new(data)) {
        Ok(message) => {
            compare(&message);
            Corpus::Keep
        }
        Err(_) => Corpus::Reject,
    }
});

fn compare(message: &[u8]) {
    let slow = slow_wire::record(message);
    let checked = Record::from_wire(message.to_vec());
    match Theirs::decode(message) {
        Ok(theirs) => {
            let tree = slow.as_ref().expect("prost reads it").as_ref();
            assert_eq!(
                tree,
                theirs.data.as_ref().map(Tree::from).as_ref(),
                "prost reads something else"
            );
        }
        Err(error) => {
            let error = error.to_string();
            let is_known = ["invalid wire type", "recursion limit reached"]
                .iter()
                .any(|what| error.contains(what));
            assert!(slow.is_err() || is_known, "{error}");
        }
    }
    let canonical = slow.map(|tree| tree.map(|tree| tree.canonical()));
    let expected = match canonical {
        Ok(None) => {
            let record = checked.expect("a record without data");
            assert!(record.data().is_none() && record.cid().is_err() && record.to_json().is_err());
            return;
        }
        Ok(Some(Some(text))) => text,
        Ok(Some(None)) | Err(_) => {
            assert!(checked.is_err(), "taken, but it has no JSON");
            // As it comes from a server, unchecked.
            if let Ok(record) = Record::decode(message) {
                assert!(
                    record.cid().is_err() && record.to_json().is_err(),
                    "it has no JSON"
                );
            }
            return;
        }
    };
    let checked = checked.unwrap_or_else(|error| panic!("{error}, of {expected}"));
    let unchecked = Record::decode(message).expect("it is a message");
    let cid = slow_cid::of(&expected);
    for record in [checked, unchecked] {
        assert_eq!(record.to_json().expect("it has JSON"), expected);
        assert_eq!(record.cid().expect("it has a CID").to_string(), cid);
    }
}

//! CIDs and canonical JSON, against the reference implementation's answers.

use std::collections::{BTreeSet, HashSet};

use agntcy_dir_stream::{Cid, ErrorKind, Record};
use data_encoding::BASE64;
use prost::Message as _;
use serde::Deserialize;

use crate::support::records::{cid, example_records, nested, record};

/// A Record message, and what DIR's reference implementation in Go makes of it. Where `canonical` and `cid` are
/// empty, it has no CID for the record.
#[derive(Deserialize)]
struct Vector {
    note: String,
    wire: String,
    canonical: String,
    cid: String,
}

impl Vector {
    fn record(&self) -> Result<Record, prost::DecodeError> {
        if self.note == "list nested 12500 deep" {
            return Record::decode(nested(12_500).as_slice());
        }
        Record::decode(BASE64.decode(self.wire.as_bytes()).unwrap().as_slice())
    }
}

#[test]
fn every_vector_has_the_reference_canonical_json_and_cid() {
    let vectors: Vec<Vector> = include_str!("data/cid_vectors.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(vectors.len(), 402);
    let mut refused = 0;
    for vector in &vectors {
        let note = &vector.note;
        let Ok(record) = vector.record() else {
            assert_eq!(vector.cid, "", "{note}: not decoded");
            refused += 1;
            continue;
        };
        if vector.cid.is_empty() {
            let error = record.cid().expect_err(note);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{note}");
            assert!(record.to_json().is_err(), "{note}");
            refused += 1;
            continue;
        }
        let canonical = BASE64.decode(vector.canonical.as_bytes()).unwrap();
        assert_eq!(
            record.to_json().expect(note),
            String::from_utf8(canonical).unwrap(),
            "{note}"
        );
        let cid = record.cid().expect(note);
        assert_eq!(cid.to_string(), vector.cid, "{note}");
        assert_eq!(vector.cid.parse::<Cid>().unwrap(), cid, "{note}");
        record.verify(&cid).expect(note);
        // What is valid survives all that can be done with it; but types recurse, and so end
        // sooner than the wire.
        if note == "list nested 500 deep" {
            continue;
        }
        let again: Record = record.to_json().unwrap().parse().expect(note);
        assert_eq!(again.cid().unwrap(), cid, "{note}: through JSON text");
        let value = serde_json::Value::try_from(&record).expect(note);
        let again = Record::try_from(&value).expect(note);
        assert_eq!(again.cid().unwrap(), cid, "{note}: through Value");
        let again = Record::from_wire(record.to_wire()).expect(note);
        assert_eq!(again.cid().unwrap(), cid, "{note}: through wire bytes");
        let message = prost_types::Struct::try_from(&record).expect(note);
        let again = Record::try_from(message).expect(note);
        assert_eq!(again.cid().unwrap(), cid, "{note}: through Struct");
    }
    assert_eq!(refused, 11);
}

#[test]
fn any_cid_parses_and_prints_as_it_should() {
    let same = [
        // The same CID in base32, in base58btc, and in upper-case base32.
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "zdj7WhuEjrB5m42vwyJqzvxCsZ9rWXn9xiXzSEm2KXFQTVLEy",
        "BAFYBEIGDYRZT5SFP7UDM7HU76UH7Y26NF3EFUYLQABF3OCLGTQY55FBZDI",
    ];
    let first: Cid = same[0].parse().unwrap();
    assert_eq!(first.to_string(), same[0]);
    assert_eq!(same[2].parse::<Cid>().unwrap(), first);
    assert_ne!(same[1].parse::<Cid>().unwrap().to_string(), same[1]);
    let v0 = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG";
    assert_eq!(v0.parse::<Cid>().unwrap().to_string(), v0);
}

#[test]
fn a_text_that_is_no_cid_is_quoted_in_the_error() {
    for text in [
        "oops",
        "b",
        "Qm",
        "baeareig",
        "ß",
        "f0155",
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzd1",
        "/ipfs/bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdiaaa",
        " bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "zQmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
    ] {
        let error = text.parse::<Cid>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.to_string(), format!("invalid: `{text}` is not a CID"));
    }
    let error = "\0\u{1b}[2J".parse::<Cid>().unwrap_err();
    assert_eq!(error.to_string(), r"invalid: `\u{0}\u{1b}[2J` is not a CID");
    let error = "".parse::<Cid>().unwrap_err();
    assert_eq!(error.to_string(), "invalid: the CID is empty");
    let error = "ä".repeat(1000).parse::<Cid>().unwrap_err();
    assert!(error.to_string().len() < 300, "{error}");
    // Base 58 takes the square of its length, so a long text is not even looked at.
    assert!("z1".repeat(1 << 20).parse::<Cid>().is_err());
}

#[test]
fn cids_can_be_compared_hashed_ordered_and_serialized() {
    let cids: Vec<Cid> = (0..100).map(|number| cid(&record(number))).collect();
    assert_eq!(cids.iter().collect::<HashSet<_>>().len(), 100);
    assert_eq!(cids.iter().collect::<BTreeSet<_>>().len(), 100);
    let text = serde_json::to_string(&cids).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Cid>>(&text).unwrap(), cids);
    assert!(serde_json::from_str::<Cid>("\"oops\"").is_err());
    assert_eq!(format!("{:?}", cids[0]), format!("Cid({})", cids[0]));
}

/// Pushes and pulls compute the CID of each record, so that has to be cheap.
#[test]
fn the_cid_of_a_record_of_usual_size_allocates_nothing() {
    let records = example_records();
    let mut none = 0;
    for record in &records {
        let used = allocation_counter::measure(|| _ = record.cid().unwrap());
        none += usize::from(used.count_total == 0);
    }
    // One of them has more entries than there is room for on the stack.
    assert!(none + 1 >= records.len(), "{none} of {}", records.len());
}

#[test]
fn another_record_does_not_verify() {
    let error = record(1).verify(&cid(&record(2))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains(&cid(&record(1)).to_string()));
    assert!(error.to_string().contains(&cid(&record(2)).to_string()));
}

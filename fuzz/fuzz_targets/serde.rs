//! Values of all kinds of types into records and back, and records as all kinds of types, beside `serde_json`.
//!
//! The first byte says which of the two.
#![no_main]

use agntcy_dir_stream::{ErrorKind, Record};
use agntcy_dir_stream_fuzz::typed::{Holder, Maker, Node};
use agntcy_dir_stream_fuzz::{text, zoo};
use arbitrary::{Result, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde::Deserialize as _;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((form, data)) = data.split_first() else {
        return Corpus::Reject;
    };
    let choices = &mut Unstructured::new(data);
    let done = match form % 2 {
        0 => there_and_back(choices),
        _ => as_all_types(choices),
    };
    match done {
        Ok(()) => Corpus::Keep,
        Err(_) => Corpus::Reject,
    }
});

fn as_all_types(choices: &mut Unstructured<'_>) -> Result<()> {
    let value = zoo::value(choices, 0)?;
    let record = Record::try_from(serde_json::json!({ "value": value })).expect("it is an object");
    zoo::read_as_all(&record);
    Ok(())
}

/// What types can read, in objects and arrays.
const DEEPEST: usize = 128;

fn there_and_back(choices: &mut Unstructured<'_>) -> Result<()> {
    let mut maker = Maker::new(choices);
    let holder = Holder {
        value: maker.node(0)?,
    };
    let Maker {
        not_finite,
        buffered,
        singles,
        ..
    } = maker;
    let ours = Record::from_serialize(&holder);
    let text = match serde_json::to_string(&holder) {
        Ok(text) => text,
        Err(error) => {
            assert!(ours.is_err(), "serde_json: {error}");
            return Ok(());
        }
    };
    let is_exact =
        |literal: &String| format!("{:.0}", literal.parse::<f64>().expect("a number")) == *literal;
    let integers = text::integers(text.as_bytes());
    let is_taken =
        !not_finite && integers.iter().all(is_exact) && text::depth(text.as_bytes()) <= DEEPEST;
    let record = match ours {
        Ok(record) => record,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(!is_taken, "{error}, of {text}");
            return Ok(());
        }
    };
    assert!(is_taken, "it is taken: {holder:?}");
    let cid = record.cid().expect("it was checked");
    assert_eq!(
        Record::from_json(&text)
            .expect("it is an object")
            .cid()
            .expect("checked"),
        cid,
        "{text}"
    );
    if !singles && let Ok(value) = serde_json::to_value(&holder) {
        assert_eq!(
            Record::try_from(&value)
                .expect("it is an object")
                .cid()
                .expect("checked"),
            cid,
            "{text}"
        );
    }
    let back = record.deserialize::<Holder<Node>>();
    // Integers beyond 2^53 have other digits in canonical text.
    let are_small = integers.iter().all(|literal| {
        literal
            .parse::<i128>()
            .is_ok_and(|it| it.unsigned_abs() <= 1 << 53)
    });
    if are_small && !is_large_or_minus_zero(&record.to_json().expect("checked")) {
        agrees(&holder, &back, &read(&record.to_json().expect("checked")));
    }
    if !buffered {
        agrees(&holder, &back, &read(&text));
    }
    Ok(())
}

/// As `serde_json` reads it, however deep it is.
fn read(text: &str) -> serde_json::Result<Holder<Node>> {
    let mut parser = serde_json::Deserializer::from_slice(text.as_bytes());
    parser.disable_recursion_limit();
    Holder::deserialize(&mut parser)
}

/// What is written of floats as if they were integers.
fn is_large_or_minus_zero(canonical: &str) -> bool {
    let is_odd = |literal: &String| {
        literal == "-0"
            || !literal
                .parse::<i128>()
                .is_ok_and(|it| it.unsigned_abs() <= 1 << 53)
    };
    text::integers(canonical.as_bytes()).iter().any(is_odd)
}

/// The texts of both are compared, since these tell `-0` from `0`.
fn agrees(
    holder: &Holder<Node>,
    back: &std::result::Result<Holder<Node>, agntcy_dir_stream::Error>,
    theirs: &serde_json::Result<Holder<Node>>,
) {
    match (back, theirs) {
        (Ok(back), Ok(theirs)) => {
            assert_eq!(format!("{back:?}"), format!("{theirs:?}"), "of {holder:?}")
        }
        (Err(_), Err(_)) => {}
        _ => panic!("{holder:?}: {back:?}, and serde_json: {theirs:?}"),
    }
}

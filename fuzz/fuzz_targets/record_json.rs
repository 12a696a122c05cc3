//! A record from any text, beside `serde_json`, the slow canonical form, and a look at the numbers as they were written.
#![no_main]

use agntcy_dir_stream::{ErrorKind, Record};
use agntcy_dir_stream_fuzz::memory::{bounded, of_reading};
use agntcy_dir_stream_fuzz::tree::Tree;
use agntcy_dir_stream_fuzz::{digits, slow_cid, text};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize as _;
use serde_json::Value;

/// In objects and arrays.
const DEEPEST: usize = 128;

fuzz_target!(|data: &[u8]| {
    // What is written grows by doubling, and so do the parser's strings.
    let most = of_reading(data.len()) + 64 * data.len();
    let ours = bounded("from_json", most, || Record::from_json(data));
    let strict = bounded("from_json_strict", 2 * most, || {
        Record::from_json_strict(data)
    });
    if let Ok(text) = std::str::from_utf8(data) {
        let parsed = text.parse::<Record>();
        assert_eq!(parsed.as_ref().ok(), ours.as_ref().ok(), "by `FromStr`");
    }
    let bare = text::without_mark(data);
    let Some(value) = value(bare) else {
        let error = ours.expect_err("it is no JSON object, or too deep");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().len() < 4096, "a long error");
        assert!(strict.is_err());
        return;
    };
    let ours = ours.expect("it is a JSON object");
    let cid = ours.cid().expect("it was checked");
    let tree = Tree::from(&value);
    let canonical = tree.canonical().expect("JSON has no other numbers");
    assert_eq!(ours.to_json().expect("it was checked"), canonical);
    assert_eq!(cid.to_string(), slow_cid::of(&canonical));
    let by_value = Record::try_from(&value).expect("it is an object");
    assert_eq!(by_value.cid().expect("it was checked"), cid, "by a value");
    // `serde_json` has a limit of its own, which is one less.
    if let Ok(part) = serde_json::from_slice::<Record>(bare) {
        assert_eq!(part.cid().expect("it was checked"), cid, "as a part");
    } else {
        assert_eq!(
            tree.depth(),
            DEEPEST,
            "it was taken as a record, and not as a part"
        );
    }
    let is_lossless =
        !text::has_equal_keys(bare) && text::integers(bare).iter().all(|literal| is_kept(literal));
    assert_eq!(strict.is_ok(), is_lossless, "strictly: {strict:?}");
    if let Ok(strict) = strict {
        assert_eq!(strict, ours, "strictly");
    }
});

/// The object of a text that is not too deep.
fn value(text: &[u8]) -> Option<Value> {
    if text::depth(text) > DEEPEST {
        return None;
    }
    let mut parser = serde_json::Deserializer::from_slice(text);
    parser.disable_recursion_limit();
    let value = Value::deserialize(&mut parser).ok()?;
    parser.end().ok()?;
    value.is_object().then_some(value)
}

/// Whether an integer is a 64-bit float, or what is printed for one.
fn is_kept(literal: &str) -> bool {
    let float: f64 = literal.parse().expect("a number");
    format!("{float:.0}") == literal || digits::go(float).as_deref() == Some(literal)
}

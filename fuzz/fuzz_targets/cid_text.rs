//! CIDs of any text, beside the `cid` crate.
//!
//! The first byte says whether the others are the text, or the parts of a CID.
#![no_main]

use std::str;

use agntcy_dir_stream::{Cid, ErrorKind, Record};
use agntcy_dir_stream_fuzz::memory::bounded;
use arbitrary::{Result, Unstructured};
use cid::Version;
use cid::multibase::{self, Base};
use cid::multihash::Multihash;
use libfuzzer_sys::{Corpus, fuzz_target};

/// The longest text that is looked at.
const LONGEST: usize = 1024;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((form, data)) = data.split_first() else {
        return Corpus::Reject;
    };
    if form % 2 == 0 {
        let Ok(text) = str::from_utf8(data) else {
            return Corpus::Reject;
        };
        compare(text);
        return Corpus::Keep;
    }
    match made_of(&mut Unstructured::new(data)) {
        Ok(()) => Corpus::Keep,
        Err(_) => Corpus::Reject,
    }
});

fn compare(text: &str) {
    let ours = bounded("to parse", 64 << 10, || text.parse::<Cid>());
    let theirs = theirs(text).filter(has_room);
    match (ours, theirs) {
        (Ok(ours), Some(theirs)) => is_same(ours, &theirs),
        (Err(error), None) => {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().len() < 4096, "a long error");
            assert!(Cid::try_from(text).is_err());
        }
        (ours, theirs) => panic!("{text:?}: {ours:?}, and theirs is {theirs:?}"),
    }
}

/// What the `cid` crate reads of it, where nothing stands around the CID. By itself, that crate takes a path before it,
/// bytes behind it, and a multibase before a CIDv0.
fn theirs(text: &str) -> Option<cid::Cid> {
    if text.len() > LONGEST || text.is_empty() {
        return None;
    }
    let bytes = match Version::is_v0_str(text) {
        true => Base::Base58Btc.decode(text).ok()?,
        false => multibase::decode(text).ok()?.1,
    };
    let cid = cid::Cid::try_from(bytes.as_slice()).ok()?;
    if !text.contains("/ipfs/") {
        assert_eq!(cid::Cid::try_from(text).ok(), Some(cid));
    }
    let is_alone = cid.to_bytes().len() == bytes.len();
    let is_v0 = cid.version() == Version::V0;
    (is_alone && is_v0 == Version::is_v0_str(text)).then_some(cid)
}

fn has_room(cid: &cid::Cid) -> bool {
    let is_short = |code: u64| u32::try_from(code).is_ok();
    cid.hash().size() <= 32 && is_short(cid.codec()) && is_short(cid.hash().code())
}

fn is_same(ours: Cid, theirs: &cid::Cid) {
    let text = theirs.to_string();
    assert_eq!(ours.to_string(), text);
    assert_eq!(format!("{ours:?}"), format!("Cid({text})"));
    assert_eq!(text.parse::<Cid>().expect("it was printed"), ours);
    assert_eq!(Cid::try_from(text.as_str()).expect("it was printed"), ours);
    let json = serde_json::to_string(&ours).expect("it is text");
    assert_eq!(json, format!("\"{text}\""));
    assert_eq!(
        serde_json::from_str::<Cid>(&json).expect("it was printed"),
        ours
    );
    assert_eq!(
        serde_json::from_value::<Cid>(text.clone().into()).expect("it was printed"),
        ours
    );
    // No record has it.
    assert!(
        Record::from_json(r#"{"name": "no other"}"#)
            .expect("JSON")
            .verify(&ours)
            .is_err()
    );
}

/// Parts of a CID in any base, and what follows from another digest.
fn made_of(choices: &mut Unstructured<'_>) -> Result<()> {
    const BASES: [Base; 23] = [
        Base::Base2,
        Base::Base8,
        Base::Base10,
        Base::Base16Lower,
        Base::Base16Upper,
        Base::Base32Lower,
        Base::Base32Upper,
        Base::Base32PadLower,
        Base::Base32PadUpper,
        Base::Base32HexLower,
        Base::Base32HexUpper,
        Base::Base32HexPadLower,
        Base::Base32HexPadUpper,
        Base::Base32Z,
        Base::Base36Lower,
        Base::Base36Upper,
        Base::Base58Flickr,
        Base::Base58Btc,
        Base::Base64,
        Base::Base64Pad,
        Base::Base64Url,
        Base::Base64UrlPad,
        Base::Base256Emoji,
    ];
    let codec = code(choices, 1)?;
    let hash = code(choices, 0x12)?;
    let size = if choices.ratio(3, 4)? {
        32
    } else {
        choices.int_in_range(0..=64)?
    };
    let mut digest = vec![0; size];
    choices.fill_buffer(&mut digest)?;
    let hash = Multihash::wrap(hash, &digest).expect("64 bytes at most");
    let cid = match cid::Cid::new_v0(hash) {
        Ok(cid) if choices.arbitrary()? => cid,
        _ => cid::Cid::new_v1(codec, hash),
    };
    compare(&cid.to_string());
    if cid.version() == Version::V1 {
        for base in BASES {
            let text = multibase::encode(base, cid.to_bytes());
            compare(&text);
            if has_room(&cid) && text.len() <= LONGEST {
                let one: Cid = text.parse().expect("it has room");
                assert_eq!(one.to_string(), cid.to_string(), "in {base:?}");
            }
        }
    }
    Ok(())
}

fn code(choices: &mut Unstructured<'_>, usual: u64) -> Result<u64> {
    Ok(match choices.int_in_range(0..=3)? {
        0 => choices.arbitrary()?,
        1 => choices.arbitrary::<u32>()?.into(),
        2 => choices.arbitrary::<u8>()?.into(),
        _ => usual,
    })
}

//! Record messages that are nearly always well formed, and written as no encoder would: entries in parts, long varints,
//! unknown fields, keys that come twice, kinds that replace each other.

use arbitrary::{Result, Unstructured};

/// A Record message that these bytes choose.
pub fn record(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    for _ in 0..choices.int_in_range(1..=2)? {
        let part = object(choices, 0)?;
        bytes(1, &part, &mut message, choices)?;
        unknown(&mut message, choices)?;
    }
    Ok(message)
}

const DEEPEST: usize = 140;

fn object(choices: &mut Unstructured<'_>, depth: usize) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    for _ in 0..count(choices)? {
        let mut entry = Vec::new();
        if choices.ratio(7, 8)? {
            let key = text(choices)?;
            bytes(1, &key, &mut entry, choices)?;
        }
        for _ in 0..parts(choices)? {
            let value = value(choices, depth + 1)?;
            bytes(2, &value, &mut entry, choices)?;
        }
        unknown(&mut entry, choices)?;
        bytes(1, &entry, &mut message, choices)?;
    }
    unknown(&mut message, choices)?;
    Ok(message)
}

fn value(choices: &mut Unstructured<'_>, depth: usize) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    for _ in 0..parts(choices)? {
        match choices.int_in_range(0..=9)? {
            0 => {
                varint(1 << 3, &mut message, choices)?;
                varint(choices.arbitrary::<u8>()?.into(), &mut message, choices)?;
            }
            1 => {
                varint(4 << 3, &mut message, choices)?;
                varint(choices.int_in_range(0..=2)?, &mut message, choices)?;
            }
            2 | 3 => {
                varint(2 << 3 | 1, &mut message, choices)?;
                message.extend_from_slice(&number(choices)?.to_le_bytes());
            }
            4 | 5 if depth < DEEPEST => {
                let inner = object(choices, depth)?;
                bytes(5, &inner, &mut message, choices)?;
            }
            6 | 7 if depth < DEEPEST => {
                let mut list = Vec::new();
                for _ in 0..count(choices)? {
                    let element = value(choices, depth + 1)?;
                    bytes(1, &element, &mut list, choices)?;
                }
                bytes(6, &list, &mut message, choices)?;
            }
            _ => {
                let text = text(choices)?;
                bytes(3, &text, &mut message, choices)?;
            }
        }
        unknown(&mut message, choices)?;
    }
    Ok(message)
}

/// One in most cases.
fn parts(choices: &mut Unstructured<'_>) -> Result<u8> {
    Ok(match choices.arbitrary::<u8>()? {
        0..=1 => 0,
        2..=24 => 2,
        25..=32 => 3,
        _ => 1,
    })
}

fn count(choices: &mut Unstructured<'_>) -> Result<u8> {
    match choices.is_empty() {
        true => Ok(0),
        false => choices.int_in_range(0..=4),
    }
}

fn number(choices: &mut Unstructured<'_>) -> Result<f64> {
    Ok(match choices.int_in_range(0..=3)? {
        0 => choices.arbitrary::<i16>()?.into(),
        1 => f64::from(choices.arbitrary::<i32>()?) / 1000.0,
        2 => f64::from(choices.arbitrary::<i16>()?) * 10_f64.powi(choices.int_in_range(-30..=30)?),
        _ => choices.arbitrary()?,
    })
}

fn text(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    const SOME: &[&[u8]] = &[
        b"",
        b"a",
        b"b",
        b"name",
        b"version",
        b"schema_version",
        b"<&>",
        b"\"\\",
        b"\x00\x1f\x7f",
        b"\n\r\t\x08\x0c",
        "\u{2028}\u{2029}\u{2027}".as_bytes(),
        "ä".as_bytes(),
        "\u{ffff}\u{10000}".as_bytes(),
        b"\xff",
        b"\xe2\x80",
    ];
    Ok(match choices.int_in_range(0..=3)? {
        0 | 1 => choices.choose(SOME)?.to_vec(),
        2 => choices.arbitrary::<&str>()?.as_bytes().to_vec(),
        _ => {
            let len = choices.int_in_range(0..=300)?;
            choices
                .choose(SOME)?
                .iter()
                .copied()
                .cycle()
                .take(len)
                .collect()
        }
    })
}

/// A field that no message has, or one of another wire type than it should be.
fn unknown(message: &mut Vec<u8>, choices: &mut Unstructured<'_>) -> Result<()> {
    match choices.arbitrary::<u8>()? {
        1 => message.extend_from_slice(&[7 << 3, 1]),
        2 => message.extend_from_slice(&[1 << 3 | 5, 1, 2, 3, 4]),
        3 => message.extend_from_slice(&[2 << 3 | 3, 7 << 3, 1, 2 << 3 | 4]),
        4 => message.extend_from_slice(&[1 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8]),
        5 => message.extend_from_slice(&[7 << 3 | 2, 2, 0xff, 0xff]),
        6 => message.extend_from_slice(&[3 << 3, 0]),
        7 => message.push(choices.arbitrary()?),
        _ => {}
    }
    Ok(())
}

fn bytes(
    number: u64,
    payload: &[u8],
    to: &mut Vec<u8>,
    choices: &mut Unstructured<'_>,
) -> Result<()> {
    varint(number << 3 | 2, to, choices)?;
    varint(payload.len() as u64, to, choices)?;
    to.extend_from_slice(payload);
    Ok(())
}

/// Now and then with more bytes than it needs.
fn varint(value: u64, to: &mut Vec<u8>, choices: &mut Unstructured<'_>) -> Result<()> {
    prost::encoding::encode_varint(value, to);
    if choices.arbitrary::<u8>()? == 1 {
        let more = choices.int_in_range(1..=3)?;
        *to.last_mut().expect("a varint has a byte") |= 0x80;
        to.resize(to.len() + more, 0x80);
        *to.last_mut().expect("as before") = 0;
    }
    Ok(())
}

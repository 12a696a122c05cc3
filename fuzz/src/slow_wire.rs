//! The wire format of a Record message, read the slow way: each message by itself, into a tree.

use std::collections::BTreeMap;

use crate::tree::Tree;

/// These bytes are no message.
#[derive(Clone, Copy, Debug)]
pub struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// A message may be given in parts, each of which is a whole number of fields.
type Parts<'a> = Vec<&'a [u8]>;

#[derive(Clone, Copy)]
enum Field<'a> {
    Varint(u32, u64),
    Fixed64(u32, [u8; 8]),
    Bytes(u32, &'a [u8]),
    Skipped,
}

/// How many groups may stand in each other in a Record message: what `prost` allows, which reads that one.
const GROUPS_IN_RECORD: usize = 100;
/// The same in its data: what Go allows.
const GROUPS_IN_DATA: usize = 10_000;

/// The data of a Record message. `None`: it has none.
pub fn record(message: &[u8]) -> Result<Option<Tree>> {
    let mut parts: Option<Parts<'_>> = None;
    for field in fields(&[message], GROUPS_IN_RECORD)? {
        if let Field::Bytes(1, part) = field {
            parts.get_or_insert_default().push(part);
        }
    }
    parts.map(|parts| object(&parts)).transpose()
}

fn object(parts: &[&[u8]]) -> Result<Tree> {
    let mut entries = BTreeMap::new();
    for field in fields(parts, GROUPS_IN_DATA)? {
        if let Field::Bytes(1, entry) = field {
            let (mut key, mut values) = (String::new(), Parts::new());
            for field in fields(&[entry], GROUPS_IN_DATA)? {
                match field {
                    Field::Bytes(1, bytes) => key = text(bytes)?,
                    Field::Bytes(2, part) => values.push(part),
                    _ => {}
                }
            }
            entries.insert(key, value(&values)?);
        }
    }
    Ok(Tree::Object(entries))
}

fn list(parts: &[&[u8]]) -> Result<Tree> {
    let mut elements = Vec::new();
    for field in fields(parts, GROUPS_IN_DATA)? {
        if let Field::Bytes(1, part) = field {
            elements.push(value(&[part])?);
        }
    }
    Ok(Tree::List(elements))
}

fn value(parts: &[&[u8]]) -> Result<Tree> {
    // What comes last counts, and objects and lists that follow their own kind are one.
    let mut last = Tree::NoKind;
    let mut message: Option<(u32, Parts<'_>)> = None;
    for field in fields(parts, GROUPS_IN_DATA)? {
        if let Field::Bytes(number @ (5 | 6), part) = field {
            if let Some((kind, parts)) = &mut message
                && *kind == number
            {
                parts.push(part);
            } else {
                finish(message.take())?;
                message = Some((number, vec![part]));
            }
            continue;
        }
        let scalar = match field {
            Field::Varint(1, _) => Tree::Null,
            Field::Fixed64(2, bits) => Tree::Number(f64::from_le_bytes(bits)),
            Field::Bytes(3, bytes) => Tree::Text(text(bytes)?),
            Field::Varint(4, bit) => Tree::Bool(bit != 0),
            _ => continue,
        };
        finish(message.take())?;
        last = scalar;
    }
    Ok(finish(message)?.unwrap_or(last))
}

/// Also what is replaced has to be well formed.
fn finish(message: Option<(u32, Parts<'_>)>) -> Result<Option<Tree>> {
    match message {
        Some((5, parts)) => object(&parts).map(Some),
        Some((_, parts)) => list(&parts).map(Some),
        None => Ok(None),
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed)
}

fn fields<'a>(parts: &[&'a [u8]], groups: usize) -> Result<Vec<Field<'a>>> {
    let mut fields = Vec::new();
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            fields.push(field(&mut rest, groups)?);
        }
    }
    Ok(fields)
}

fn field<'a>(rest: &mut &'a [u8], groups: usize) -> Result<Field<'a>> {
    let (number, kind) = tag(rest)?;
    Ok(match kind {
        0 => Field::Varint(number, varint(rest)?),
        1 => Field::Fixed64(number, take(rest, 8)?.try_into().expect("it is 8 long")),
        2 => {
            let len = varint(rest)?;
            Field::Bytes(
                number,
                take(rest, usize::try_from(len).map_err(|_| Malformed)?)?,
            )
        }
        3 => {
            let mut open = vec![number];
            while let Some(innermost) = open.last().copied() {
                let mut ahead = *rest;
                match tag(&mut ahead)? {
                    (number, 4) if number == innermost => {
                        open.pop();
                        *rest = ahead;
                    }
                    (number, 3) if open.len() < groups => {
                        open.push(number);
                        *rest = ahead;
                    }
                    (_, 0..=2 | 5) if open.len() < groups => drop(field(rest, groups)?),
                    _ => return Err(Malformed),
                }
            }
            Field::Skipped
        }
        5 => {
            take(rest, 4)?;
            Field::Skipped
        }
        _ => return Err(Malformed),
    })
}

fn tag(rest: &mut &[u8]) -> Result<(u32, u64)> {
    let tag = varint(rest)?;
    match u32::try_from(tag >> 3) {
        Ok(number @ 1..0x2000_0000) => Ok((number, tag & 7)),
        _ => Err(Malformed),
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0_u128;
    for place in 0..10 {
        let byte = take(rest, 1)?[0];
        value |= u128::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return u64::try_from(value).map_err(|_| Malformed);
        }
    }
    Err(Malformed)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = left;
    Ok(taken)
}

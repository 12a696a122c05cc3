//! Reads the protobuf wire format of `Struct`, `Value` and `ListValue` in place.
//!
//! Nothing is copied. Protobuf merges what is given twice, and the encoding of a merged message is
//! the encodings of its parts in a row; so a [`Message`] here is a list of slices, nearly always
//! one, that are read one after the other.

use std::collections::VecDeque;
use std::ops::DerefMut;
use std::str;

use smallvec::SmallVec;

/// Go's limit on messages within messages, which a DIR server applies to every record.
pub(crate) const MAX_DEPTH: usize = 10_000;

/// What is wrong with wire bytes, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireError {
    /// The address of the byte in question; see [`WireError::offset_in`].
    address: usize,
    pub(crate) what: &'static str,
}

impl WireError {
    pub(crate) fn at(place: &[u8], what: &'static str) -> Self {
        Self {
            address: place.as_ptr() as usize,
            what,
        }
    }

    /// How many bytes into `data` the fault is. All slices of a record are slices of its data.
    pub(crate) fn offset_in(self, data: &[u8]) -> usize {
        self.address
            .saturating_sub(data.as_ptr() as usize)
            .min(data.len())
    }
}

type Result<T> = std::result::Result<T, WireError>;

/// An encoded message: its parts, which are read in a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message<'a> {
    first: &'a [u8],
    /// Boxed, since hardly any message has more, and messages are moved about a lot.
    #[allow(clippy::box_collection)]
    more: Option<Box<VecDeque<&'a [u8]>>>,
}

impl<'a> Message<'a> {
    pub(crate) fn new(part: &'a [u8]) -> Self {
        Self {
            first: part,
            more: None,
        }
    }

    fn merge(&mut self, part: &'a [u8]) {
        if part.is_empty() {
            return;
        }
        self.more.get_or_insert_default().push_back(part);
    }

    /// Where it begins, for errors.
    pub(crate) fn place(&self) -> &'a [u8] {
        self.first
    }

    fn parts(&self) -> impl Iterator<Item = &'a [u8]> {
        let more = self.more.iter().flat_map(|more| more.iter().copied());
        std::iter::once(self.first).chain(more)
    }

    pub(crate) fn fields(self) -> Fields<'a> {
        Fields(self)
    }
}

/// The fields of a message, in the order of the wire.
#[derive(Debug)]
pub(crate) struct Fields<'a>(Message<'a>);

/// A field with its payload, as far as the wire tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field<'a> {
    Varint(u32, u64),
    Fixed64(u32, [u8; 8]),
    Bytes(u32, &'a [u8]),
    /// A group or a fixed32: none of our messages has one, so it is skipped.
    Other,
}

impl<'a> Fields<'a> {
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>> {
        let Message { first: rest, more } = &mut self.0;
        while rest.is_empty() {
            match more.as_mut().and_then(|more| more.pop_front()) {
                Some(part) => *rest = part,
                None => return Ok(None),
            }
        }
        field(rest).map(Some)
    }

    /// The payload of the next field that is `1: bytes`, which is all that a Struct and a
    /// ListValue have.
    #[inline(always)]
    fn next_bytes(&mut self) -> Result<Option<&'a [u8]>> {
        if let Some((payload, rest)) = short(BYTES_1, self.0.first) {
            self.0.first = rest;
            return Ok(Some(payload));
        }
        while let Some(field) = self.next()? {
            if let Field::Bytes(1, payload) = field {
                return Ok(Some(payload));
            }
        }
        Ok(None)
    }
}

/// Whether these bytes are fields to their end, whatever is in them.
pub(crate) fn is_whole(part: &[u8]) -> bool {
    let mut fields = Message::new(part).fields();
    loop {
        match fields.next() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// The tags of the fields that nearly all messages consist of, `<type>_<number>`.
const VARINT_1: u8 = 1 << 3;
const FIXED64_2: u8 = 2 << 3 | 1;
const BYTES_1: u8 = 1 << 3 | 2;
const BYTES_2: u8 = 2 << 3 | 2;
const BYTES_3: u8 = 3 << 3 | 2;
const VARINT_4: u8 = 4 << 3;
const BYTES_5: u8 = 5 << 3 | 2;
const BYTES_6: u8 = 6 << 3 | 2;

/// The payload of a field of bytes with this tag, and what comes after it, if its length takes
/// one or two bytes. Nearly all fields are read here, since this is much faster than [`field`].
/// `None`: that one has to look at it, and says what is wrong.
#[inline]
fn short(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    match *input {
        [first, len @ 0..0x80, ref rest @ ..] if first == tag => {
            rest.split_at_checked(usize::from(len))
        }
        [first, low, high @ 0..0x80, ref rest @ ..] if first == tag => {
            rest.split_at_checked(usize::from(low & 0x7f) | usize::from(high) << 7)
        }
        _ => None,
    }
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const START_GROUP: u64 = 3;
const END_GROUP: u64 = 4;
const FIXED32: u64 = 5;

#[inline]
fn field<'a>(input: &mut &'a [u8]) -> Result<Field<'a>> {
    let start = *input;
    let (number, kind) = tag(input)?;
    match kind {
        VARINT => Ok(Field::Varint(number, varint(input)?)),
        FIXED64 => Ok(Field::Fixed64(number, fixed(input)?)),
        BYTES => Ok(Field::Bytes(number, bytes(input)?)),
        FIXED32 => fixed::<4>(input).map(|_| Field::Other),
        START_GROUP => skip_group(input, number, start).map(|()| Field::Other),
        END_GROUP => Err(WireError::at(start, "an end of a group that did not start")),
        _ => Err(WireError::at(start, "an unknown wire type")),
    }
}

#[inline]
fn tag(input: &mut &[u8]) -> Result<(u32, u64)> {
    const MAX_NUMBER: u64 = (1 << 29) - 1;
    let start = *input;
    let tag = varint(input)?;
    match tag >> 3 {
        number @ 1..=MAX_NUMBER => Ok((number as u32, tag & 7)),
        _ => Err(WireError::at(start, "a field number out of range")),
    }
}

#[inline]
fn varint(input: &mut &[u8]) -> Result<u64> {
    let start = *input;
    // Most are one byte long.
    if let [byte @ 0..0x80, rest @ ..] = start {
        *input = rest;
        return Ok(u64::from(*byte));
    }
    long_varint(input)
}

fn long_varint(input: &mut &[u8]) -> Result<u64> {
    let start = *input;
    let mut value = 0;
    for (position, byte) in start.iter().enumerate().take(10) {
        if position == 9 && *byte > 1 {
            return Err(WireError::at(start, "a varint that passes 64 bits"));
        }
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            *input = &start[position + 1..];
            return Ok(value);
        }
    }
    Err(WireError::at(start, "a varint that does not end"))
}

fn fixed<const N: usize>(input: &mut &[u8]) -> Result<[u8; N]> {
    let Some((value, rest)) = input.split_first_chunk() else {
        return Err(WireError::at(input, "a number that is cut short"));
    };
    *input = rest;
    Ok(*value)
}

#[inline]
fn bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8]> {
    let start = *input;
    let len = varint(input)?;
    match usize::try_from(len)
        .ok()
        .and_then(|len| input.split_at_checked(len))
    {
        Some((value, rest)) => {
            *input = rest;
            Ok(value)
        }
        None => Err(WireError::at(start, "a length that passes the end")),
    }
}

fn skip_group(input: &mut &[u8], number: u32, start: &[u8]) -> Result<()> {
    let mut open = vec![number];
    while let Some(innermost) = open.last() {
        let here = *input;
        let (number, kind) = tag(input)?;
        match kind {
            VARINT => drop(varint(input)?),
            FIXED64 => drop(fixed::<8>(input)?),
            BYTES => drop(bytes(input)?),
            FIXED32 => drop(fixed::<4>(input)?),
            START_GROUP if open.len() == MAX_DEPTH => {
                return Err(WireError::at(start, "groups nested too deep"));
            }
            START_GROUP => open.push(number),
            END_GROUP if number == *innermost => drop(open.pop()),
            END_GROUP => return Err(WireError::at(here, "an end of another group")),
            _ => return Err(WireError::at(here, "an unknown wire type")),
        }
    }
    Ok(())
}

/// Text as a reader wants it.
pub(crate) trait Text<'a>: Copy + AsRef<[u8]> + Ord {
    fn read(bytes: &'a [u8]) -> Result<Self>;
}

/// Checked when it is read.
impl<'a> Text<'a> for &'a str {
    #[inline]
    fn read(bytes: &'a [u8]) -> Result<Self> {
        checked(bytes)
    }
}

/// Not checked: that is left to whoever looks at all of it anyway. Text that something else replaces is checked all the
/// same, since nobody else looks at it.
impl<'a> Text<'a> for &'a [u8] {
    #[inline]
    fn read(bytes: &'a [u8]) -> Result<Self> {
        Ok(bytes)
    }
}

/// Checks that text is UTF-8.
pub(crate) fn checked(bytes: &[u8]) -> Result<&str> {
    str::from_utf8(bytes)
        .map_err(|error| WireError::at(&bytes[error.valid_up_to()..], "text that is not UTF-8"))
}

/// A `google.protobuf.Value`, one level deep, with text of a type `T`.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a, T = &'a str> {
    Null,
    Number(f64),
    String(T),
    Bool(bool),
    Struct(Message<'a>),
    List(Message<'a>),
}

/// Reads a Value, `depth` messages deep. `None`: it is of no kind, which the wire allows.
#[inline]
fn value<'a, T: Text<'a>>(message: Message<'a>, depth: usize) -> Result<Option<Value<'a, T>>> {
    check_depth(message.place(), depth)?;
    if let Message {
        first: part,
        more: None,
    } = message
        && let Some(value) = plain_value(part)?
    {
        return Ok(Some(value));
    }
    any_value(message, depth)
}

/// Reads a Value of one field, as all encoders write it. `None`: it may be of another form.
#[inline]
fn plain_value<'a, T: Text<'a>>(part: &'a [u8]) -> Result<Option<Value<'a, T>>> {
    Ok(match *part {
        [VARINT_1, 0..0x80] => Some(Value::Null),
        [VARINT_4, bit @ 0..0x80] => Some(Value::Bool(bit != 0)),
        [FIXED64_2, ref bits @ ..] => bits
            .try_into()
            .ok()
            .map(|bits| Value::Number(f64::from_le_bytes(bits))),
        [tag @ (BYTES_3 | BYTES_5 | BYTES_6), ..] => match short(tag, part) {
            Some((payload, [])) => Some(match tag {
                BYTES_3 => Value::String(T::read(payload)?),
                BYTES_5 => Value::Struct(Message::new(payload)),
                _ => Value::List(Message::new(payload)),
            }),
            _ => None,
        },
        _ => None,
    })
}

/// [`value`] in any form.
#[cold]
fn any_value<'a, T: Text<'a>>(message: Message<'a>, depth: usize) -> Result<Option<Value<'a, T>>> {
    let mut value = None;
    let mut fields = message.fields();
    while let Some(field) = fields.next()? {
        // The last kind wins; a message of the same kind again is merged into it.
        let next = match field {
            Field::Varint(1, _) => Value::Null,
            Field::Fixed64(2, bits) => Value::Number(f64::from_le_bytes(bits)),
            Field::Bytes(3, bytes) => {
                checked(bytes)?;
                Value::String(T::read(bytes)?)
            }
            Field::Varint(4, bit) => Value::Bool(bit != 0),
            Field::Bytes(5, part) => {
                if let Some(Value::Struct(message)) = &mut value {
                    message.merge(part);
                    continue;
                }
                Value::Struct(Message::new(part))
            }
            Field::Bytes(6, part) => {
                if let Some(Value::List(message)) = &mut value {
                    message.merge(part);
                    continue;
                }
                Value::List(Message::new(part))
            }
            _ => continue,
        };
        match value.replace(next) {
            Some(Value::Struct(lost)) => validate(Kind::Struct, &lost, depth + 1)?,
            Some(Value::List(lost)) => validate(Kind::List, &lost, depth + 1)?,
            _ => {}
        }
    }
    Ok(value)
}

/// Reads a Value that JSON can have, `depth` messages deep.
#[inline]
pub(crate) fn json_value<'a, T: Text<'a>>(
    message: Message<'a>,
    depth: usize,
) -> Result<Value<'a, T>> {
    let place = message.place();
    match value(message, depth)? {
        Some(Value::Number(number)) if !number.is_finite() => {
            Err(WireError::at(place, "a number that is not finite"))
        }
        Some(value) => Ok(value),
        None => Err(WireError::at(place, "a value of no kind")),
    }
}

/// A number as JSON has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    /// Whole, and not negative.
    Unsigned(u64),
    /// Whole, and negative.
    Signed(i64),
    /// A fraction, `-0`, or too large for these.
    Float(f64),
}

impl From<f64> for Number {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn from(number: f64) -> Self {
        /// 2^63, and 2^64 is twice that.
        const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
        let is_whole = number.fract() == 0.0 && !is_negative_zero(number);
        if is_whole && (0.0..2.0 * TOO_LARGE).contains(&number) {
            Self::Unsigned(number as u64)
        } else if is_whole && (-TOO_LARGE..0.0).contains(&number) {
            Self::Signed(number as i64)
        } else {
            Self::Float(number)
        }
    }
}

pub(crate) fn is_negative_zero(number: f64) -> bool {
    number == 0.0 && number.is_sign_negative()
}

/// How many messages deep a Value is that stands in `containers` structs and lists: the Record
/// and the first Struct are messages, then each Value and what it holds.
pub(crate) const fn depth_in(containers: usize) -> usize {
    2 * containers + 1
}

/// The next element of a ListValue.
pub(crate) fn next_element<'a>(fields: &mut Fields<'a>) -> Result<Option<Message<'a>>> {
    Ok(fields.next_bytes()?.map(Message::new))
}

/// An entry of a Struct, with text of a type `T`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry<'a, T = &'a str> {
    pub(crate) key: T,
    pub(crate) value: Message<'a>,
}

/// The next entry of a Struct as the wire has it: a key can come more than once.
#[inline]
fn next_entry<'a, T: Text<'a>>(fields: &mut Fields<'a>) -> Result<Option<Entry<'a, T>>> {
    fields.next_bytes()?.map(entry).transpose()
}

/// A growing list of entries, on the heap or, as long as there are few, on the stack.
pub(crate) trait Table<'a, T>: DerefMut<Target = [Entry<'a, T>]> {
    fn capacity(&self) -> usize;
    fn push(&mut self, entry: Entry<'a, T>);
    fn truncate(&mut self, len: usize);
    fn reserve_exact(&mut self, more: usize);
}

macro_rules! tables {
    ($($type:ty $(, $generic:ident)?;)*) => {$(
        impl<'a, T $(, $generic: smallvec::Array<Item = Entry<'a, T>>)?> Table<'a, T> for $type {
            fn capacity(&self) -> usize {
                self.capacity()
            }

            fn push(&mut self, entry: Entry<'a, T>) {
                self.push(entry);
            }

            fn truncate(&mut self, len: usize) {
                self.truncate(len);
            }

            fn reserve_exact(&mut self, more: usize) {
                self.reserve_exact(more);
            }
        }
    )*};
}

tables!(
    Vec<Entry<'a, T>>;
    SmallVec<A>, A;
);

/// Appends the entries of a Struct to `table`, sorted by key bytes, each key once, the last of the wire.
/// Their values are `depth` messages deep.
///
/// Two bytes make an entry, and an entry takes twenty times as much here. But nearly all of so short
/// ones have the same few keys, so those that others replace go before the table grows: it takes at most
/// 16 bytes for each byte of the message, that of its growing and of the sorting included.
#[inline]
pub(crate) fn entries<'a, T: Text<'a>>(
    message: Message<'a>,
    depth: usize,
    table: &mut impl Table<'a, T>,
) -> Result<()> {
    let start = table.len();
    let mut fields = message.fields();
    while let Some(entry) = next_entry(&mut fields)? {
        if table.len() == table.capacity() {
            make_room(table, start, depth)?;
        }
        table.push(entry);
    }
    let kept = sort(&mut table[start..], depth)?;
    table.truncate(start + kept);
    Ok(())
}

/// The entries of a Struct, in a table that stays open while what is in them is read: those of objects in
/// each other are open together, so none keeps room for much more than it has.
pub(crate) fn table<'a>(message: Message<'a>, depth: usize) -> Result<Vec<Entry<'a>>> {
    /// So many in each of 128 objects are half a megabyte.
    const SPARE: usize = 64;
    let mut table = Vec::new();
    entries(message, depth, &mut table)?;
    if table.capacity() - table.len() > SPARE {
        table.shrink_to_fit();
    }
    Ok(table)
}

/// Makes room for another entry in a table that is full and long. One that is not grows by itself.
#[cold]
fn make_room<'a, T: Text<'a>>(
    table: &mut impl Table<'a, T>,
    start: usize,
    depth: usize,
) -> Result<()> {
    /// So many are not worth the trouble.
    const FEW: usize = 4096;
    let len = table.len();
    if len < FEW {
        return Ok(());
    }
    let kept = sort(&mut table[start..], depth)?;
    table.truncate(start + kept);
    if table.len() > len - len / 4 {
        table.reserve_exact(len / 4);
    }
    Ok(())
}

#[inline]
fn entry<'a, T: Text<'a>>(part: &'a [u8]) -> Result<Entry<'a, T>> {
    if let Some((key, rest)) = short(BYTES_1, part)
        && let Some((value, [])) = short(BYTES_2, rest)
    {
        return Ok(Entry {
            key: T::read(key)?,
            value: Message::new(value),
        });
    }
    any_entry(part)
}

/// [`entry`] in any form.
fn any_entry<'a, T: Text<'a>>(mut part: &'a [u8]) -> Result<Entry<'a, T>> {
    let start = part;
    // An empty key points into the message, and not at a literal "": to compare with the address of a literal is slow
    // on some processors.
    let mut key = &start[..0];
    let mut value: Option<Message<'_>> = None;
    while !part.is_empty() {
        match field(&mut part)? {
            Field::Bytes(1, bytes) => key = checked(bytes)?.as_bytes(),
            Field::Bytes(2, bytes) => match &mut value {
                Some(value) => value.merge(bytes),
                None => value = Some(Message::new(bytes)),
            },
            _ => {}
        }
    }
    // An entry without a value has one of no kind.
    let value = value.unwrap_or_else(|| Message::new(&start[start.len()..]));
    let key = T::read(key)?;
    Ok(Entry { key, value })
}

/// Sorts the entries of a Struct by key bytes, each key once, the last of the wire: those come
/// first, and this is how many they are. Their values are `depth` messages deep.
#[inline]
fn sort<'a, T: Text<'a>>(entries: &mut [Entry<'a, T>], depth: usize) -> Result<usize> {
    if entries.is_sorted_by(|one, next| one.key < next.key) {
        return Ok(entries.len());
    }
    // Stable, so the last of equal keys stays the last.
    entries.sort_by_key(|entry| entry.key);
    let mut kept = 0;
    for position in 0..entries.len() {
        let is_last = entries
            .get(position + 1)
            .is_none_or(|next| next.key != entries[position].key);
        if is_last {
            entries.swap(kept, position);
            kept += 1;
        } else {
            validate(Kind::Value, &entries[position].value, depth)?;
        }
    }
    Ok(kept)
}

/// The value of the key `key` of an encoded Struct, the outermost of a record.
pub(crate) fn top_level<'a>(data: &'a [u8], key: &str) -> Result<Option<Value<'a>>> {
    let mut found = None;
    let mut fields = Message::new(data).fields();
    while let Some(entry) = next_entry::<&str>(&mut fields)? {
        if entry.key == key {
            found = Some(entry.value);
        }
    }
    found
        .map(|value| json_value(value, depth_in(1)))
        .transpose()
}

fn check_depth(place: &[u8], depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(WireError::at(place, "messages nested deeper than 10000"));
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Kind {
    Struct,
    Entry,
    Value,
    List,
}

/// Checks a message that a later one replaces: it has no meaning, but must be well formed.
fn validate(kind: Kind, message: &Message<'_>, depth: usize) -> Result<()> {
    // What is still to be read of each that is open, the innermost last.
    let mut open = Vec::new();
    for part in message.parts() {
        open.push((kind, part, depth));
        while let Some((kind, rest, depth)) = open.last_mut() {
            check_depth(rest, *depth)?;
            if rest.is_empty() {
                open.pop();
                continue;
            }
            let inner = match (*kind, field(rest)?) {
                (Kind::Struct, Field::Bytes(1, part)) => (Kind::Entry, part, *depth),
                (Kind::Entry, Field::Bytes(1, bytes)) | (Kind::Value, Field::Bytes(3, bytes)) => {
                    checked(bytes)?;
                    continue;
                }
                (Kind::Entry, Field::Bytes(2, part)) | (Kind::List, Field::Bytes(1, part)) => {
                    (Kind::Value, part, *depth + 1)
                }
                (Kind::Value, Field::Bytes(5, part)) => (Kind::Struct, part, *depth + 1),
                (Kind::Value, Field::Bytes(6, part)) => (Kind::List, part, *depth + 1),
                _ => continue,
            };
            open.push(inner);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Bytes that are often a message, and often nearly one.
    fn wire(random: &mut fastrand::Rng) -> Vec<u8> {
        const TAGS: &[u8] = &[
            VARINT_1, FIXED64_2, BYTES_1, BYTES_2, BYTES_3, VARINT_4, BYTES_5, BYTES_6, 0x0b, 0xff,
        ];
        let mut bytes = Vec::new();
        for _ in 0..random.usize(..4) {
            bytes.push(*random.choice(TAGS).unwrap());
            let len = *random.choice(&[0, 1, 2, 8, 130]).unwrap();
            match random.u8(..8) {
                0 => bytes.push(random.u8(..)),
                1 => bytes.extend([len as u8 | 0x80, (len >> 7) as u8 | 0x80, 0]),
                2 | 3 => bytes.extend([len as u8 | 0x80, (len >> 7) as u8]),
                _ if len < 0x80 => bytes.push(len as u8),
                _ => {}
            }
            let byte = *random.choice(b"\x00a\x0a\xff").unwrap();
            bytes.extend(std::iter::repeat_n(byte, len));
        }
        bytes.truncate(bytes.len().saturating_sub(random.usize(..20) / 18));
        bytes
    }

    #[test]
    fn what_is_read_fast_is_read_as_in_any_form() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut plain = [0; 3];
        for _ in 0..100_000 {
            let bytes = wire(&mut random);
            let fast = format!("{:?}", value::<&str>(Message::new(&bytes), 1));
            let slow = format!("{:?}", any_value::<&str>(Message::new(&bytes), 1));
            assert_eq!(fast, slow, "{bytes:x?}");
            plain[0] += usize::from(matches!(plain_value::<&str>(&bytes), Ok(Some(_))));

            let (fast, slow) = (entry::<&str>(&bytes), any_entry::<&str>(&bytes));
            plain[1] += usize::from(fast.is_ok());
            assert_eq!(format!("{fast:?}"), format!("{slow:?}"), "{bytes:x?}");

            let mut fields = Message::new(&bytes).fields();
            let mut slow_fields = Message::new(&bytes).fields();
            loop {
                let fast = fields.next_bytes();
                let slow = loop {
                    match slow_fields.next() {
                        Ok(Some(Field::Bytes(1, payload))) => break Ok(Some(payload)),
                        Ok(Some(_)) => {}
                        Ok(None) => break Ok(None),
                        Err(error) => break Err(error),
                    }
                };
                assert_eq!(fast, slow, "{bytes:x?}");
                let Ok(Some(_)) = fast else {
                    break;
                };
                plain[2] += 1;
            }
        }
        assert!(plain.iter().all(|count| *count > 1000), "{plain:?}");
    }
}

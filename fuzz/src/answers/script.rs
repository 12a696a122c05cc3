//! What a server says, as it is chosen by bytes.

use arbitrary::{Result, Unstructured};
use prost::Message as _;
use tonic::metadata::BinaryMetadataValue;

use crate::support::messages::in_field;

/// The answers of the calls, in their order. Those after the last have none, and end with `Unavailable`.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) calls: Vec<Call>,
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) head: Head,
    pub(super) steps: Vec<Step>,
    /// The longest part that the bytes come in.
    pub(super) cut: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    /// Of HTTP.
    pub(super) status: Option<u16>,
    pub(super) content_type: Option<Vec<u8>>,
    pub(super) encoding: Option<Vec<u8>>,
    pub(super) trailers: Option<Trailers>,
}

#[derive(Clone, Debug)]
pub(super) struct Trailers {
    pub(super) status: Vec<u8>,
    pub(super) message: Option<Vec<u8>>,
    pub(super) details: Option<Vec<u8>>,
    pub(super) pushback: Option<Vec<u8>>,
    pub(super) retry_after: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// As they are.
    Bytes(Vec<u8>),
    /// As the message of a frame with this flag.
    Framed(u8, Vec<u8>),
    /// The head of a frame of this length, and nothing of what it announces.
    Announced(u32),
    /// The right answer to the request that was waited for last.
    Right,
    /// The right answer, with these bytes behind it, in the same message.
    RightAnd(Vec<u8>),
    /// Waits until another request has come, or there are no more.
    Request,
    /// In milliseconds.
    Wait(u16),
    Trailers(Trailers),
    Break,
    Hang,
}

impl Script {
    pub(super) fn of(choices: &mut Unstructured<'_>) -> Result<Self> {
        let count = choices.int_in_range(0..=4)?;
        let calls = (0..count)
            .map(|_| Call::of(choices))
            .collect::<Result<_>>()?;
        Ok(Self { calls })
    }
}

impl Call {
    fn of(choices: &mut Unstructured<'_>) -> Result<Self> {
        let head = match choices.ratio(3, 4)? {
            true => Head::default(),
            false => Head::of(choices)?,
        };
        let cut = if choices.ratio(1, 2)? {
            usize::MAX
        } else {
            choices.int_in_range(1..=9)?
        };
        let mut steps = Vec::new();
        while steps.len() < 40 && !choices.is_empty() {
            match choices.int_in_range(0..=15)? {
                0 => break,
                1 => steps.push(Step::Bytes(bytes(choices)?)),
                2 | 3 => steps.push(Step::Framed(choices.ratio(1, 8)?.into(), bytes(choices)?)),
                4 => steps.push(Step::Announced(choices.arbitrary()?)),
                5 => steps.push(Step::RightAnd(bytes(choices)?)),
                6 => steps.push(Step::Right),
                7..=9 => steps.extend([Step::Request, Step::Right]),
                10 => steps.push(Step::Request),
                11 => steps.push(Step::Wait(choices.arbitrary()?)),
                12 | 13 => steps.push(Step::Trailers(Trailers::of(choices)?)),
                14 => steps.push(Step::Break),
                _ => steps.push(Step::Hang),
            }
        }
        Ok(Self { head, steps, cut })
    }
}

impl Head {
    fn of(choices: &mut Unstructured<'_>) -> Result<Self> {
        const STATUS: &[u16] = &[200, 204, 302, 400, 401, 404, 429, 500, 502, 503, 504];
        const TYPES: &[&[u8]] = &[
            b"application/grpc+proto",
            b"text/html",
            b"",
            b"application/json",
        ];
        const ENCODINGS: &[&[u8]] = &[b"identity", b"gzip", b"zstd", b"", b"\xff"];
        Ok(Self {
            status: some(choices, |choices| choices.choose(STATUS).copied())?,
            content_type: some(choices, |choices| {
                choices.choose(TYPES).map(|text| text.to_vec())
            })?,
            encoding: some(choices, |choices| {
                choices.choose(ENCODINGS).map(|text| text.to_vec())
            })?,
            trailers: some(choices, Trailers::of)?,
        })
    }
}

impl Trailers {
    fn of(choices: &mut Unstructured<'_>) -> Result<Self> {
        let status = match choices.ratio(7, 8)? {
            true => choices.int_in_range(0..=17_u8)?.to_string().into_bytes(),
            false => bytes(choices)?,
        };
        Ok(Self {
            status,
            message: some(choices, bytes)?,
            details: some(choices, details)?,
            pushback: some(choices, number)?,
            retry_after: some(choices, number)?,
        })
    }
}

fn some<T>(
    choices: &mut Unstructured<'_>,
    make: impl FnOnce(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    choices.ratio(1, 2)?.then(|| make(choices)).transpose()
}

/// What a server asks to wait for: a short time, or any.
fn number(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let text = match choices.ratio(3, 4)? {
        true => choices.arbitrary::<i16>()?.to_string(),
        false => choices.arbitrary::<u64>()?.to_string(),
    };
    Ok(text.into_bytes())
}

/// Details as a header has them: any bytes, or a status with a `RetryInfo`.
fn details(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if choices.ratio(1, 2)? {
        return bytes(choices);
    }
    let delay = prost_types::Duration {
        seconds: choices.arbitrary()?,
        nanos: choices.arbitrary()?,
    };
    let detail = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: in_field(1, &delay.encode_to_vec()),
    };
    let status = in_field(3, &detail.encode_to_vec());
    let value = BinaryMetadataValue::from_bytes(&status);
    Ok(value.as_encoded_bytes().to_vec())
}

fn bytes(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = choices.int_in_range(0..=40)?.min(choices.len());
    Ok(choices.bytes(len)?.to_vec())
}

//! The wire form of `agntcy.dir.core.v1.Record`: its `data` field, unparsed.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, bytes as field, skip_field};
use prost::{DecodeError, Message};

use super::{Record, wire};

const DATA: u32 = 1;
/// Data that are malformed whatever comes behind them: a field without a number.
const MALFORMED: &[u8] = &[0];

impl Message for Record {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if let Some(data) = &self.data {
            field::encode(DATA, data, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        // A field of another type than its number's is an unknown field.
        if tag != DATA || wire_type != WireType::LengthDelimited {
            return skip_field(wire_type, tag, buf, ctx);
        }
        let mut part = Bytes::new();
        field::merge(wire_type, &mut part, buf, ctx)?;
        let before = self.data.take().filter(|before| !before.is_empty());
        // What comes in parts is put together, and each part is a message by itself: what ends within a field must not
        // go on in the next. Nearly every record is one part, with nothing behind it.
        let may_have_others = before.is_some() || buf.has_remaining();
        self.data = Some(match before {
            _ if may_have_others && !wire::is_whole(&part) => Bytes::from_static(MALFORMED),
            // A message field given twice is merged, which is what its encodings in a row say.
            Some(before) => {
                // Appended in place from the second part on: a message may be made of nothing
                // but parts.
                let mut both = before
                    .try_into_mut()
                    .unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
                both.extend_from_slice(&part);
                both.freeze()
            }
            None => part,
        });
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.data
            .as_ref()
            .map_or(0, |data| field::encoded_len(DATA, data))
    }

    fn clear(&mut self) {
        self.data = None;
    }
}

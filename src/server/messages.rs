//! Messages on their way to tonic, which makes room for all of one as soon as it has its first five
//! bytes, the last four of them its length. So they are held back until the rest is there, and what
//! a client only announces takes nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tonic::Status;

use super::budget::Share;
use super::live::Live;
use crate::record::MAX_RECORD_LEN;

const HEAD: usize = 5;

/// The messages of a call.
pub(super) struct Messages {
    live: Arc<Live>,
    /// What tonic has yet to take.
    whole: VecDeque<Bytes>,
    /// The message that is not all there. Its bytes are copied: a chunk of a few can be a part of
    /// a large buffer.
    half: Vec<u8>,
    room: Share,
}

/// The length of what begins so, if it can be told yet. tonic refuses what is too long, and what
/// is none, by its head alone.
fn len(begins: &[u8]) -> Option<usize> {
    let [flag, len @ ..] = begins.first_chunk::<HEAD>()?;
    let len = u32::from_be_bytes(*len) as usize;
    Some(match flag {
        0 | 1 if len <= MAX_RECORD_LEN => HEAD + len,
        _ => HEAD,
    })
}

impl Messages {
    pub(super) fn new(live: &Arc<Live>) -> Self {
        Self {
            live: Arc::clone(live),
            whole: VecDeque::new(),
            half: Vec::new(),
            room: live.room(),
        }
    }

    /// Whether there is a message that is not all there.
    pub(super) fn is_half(&self) -> bool {
        !self.half.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.half.is_empty() && self.whole.is_empty()
    }

    /// The next chunk for tonic.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        self.whole.pop_front()
    }

    /// So many bytes have come.
    pub(super) fn add(&mut self, mut data: Bytes) -> Result<(), Status> {
        if !self.is_half() {
            self.add_whole(&mut data)?;
        }
        while !data.is_empty() {
            let len_of_half = len(&self.half).unwrap_or(HEAD);
            let missing = len_of_half - self.half.len();
            let part = data.split_to(missing.min(data.len()));
            self.add_to_half(&part, len_of_half)?;
            if len(&self.half) == Some(self.half.len()) {
                self.complete()?;
                self.add_whole(&mut data)?;
            }
        }
        Ok(())
    }

    /// Where a message is compressed, tonic begins with room for twice its length.
    fn to_unpack(&self, flag: u8, len: usize) -> Result<(), Status> {
        match flag {
            1 => self.live.unpacked(MAX_RECORD_LEN.min(2 * len)),
            _ => Ok(()),
        }
    }

    /// Those that are all there pass as they are.
    fn add_whole(&mut self, data: &mut Bytes) -> Result<(), Status> {
        let (mut whole, mut longest) = (0, 0);
        while let Some(len) = len(&data[whole..]).filter(|len| whole + len <= data.len()) {
            self.to_unpack(data[whole], len)?;
            whole += len;
            longest = longest.max(len);
        }
        if whole > 0 {
            // tonic makes room for the first of them behind all of them.
            self.live.received(whole + longest)?;
            self.whole.push_back(data.split_to(whole));
        }
        Ok(())
    }

    fn add_to_half(&mut self, part: &[u8], len: usize) -> Result<(), Status> {
        let needed = self.half.len() + part.len();
        if needed > self.half.capacity() {
            let room = needed.max(len.min(2 * self.half.capacity()));
            self.room.set(room)?;
            self.half.reserve_exact(room - self.half.len());
        }
        self.half.extend_from_slice(part);
        Ok(())
    }

    fn complete(&mut self) -> Result<(), Status> {
        let mut message = Bytes::from(std::mem::take(&mut self.half));
        // tonic takes it at once, before its task does anything else.
        self.room.set(0)?;
        self.live.received(message.len())?;
        self.to_unpack(message[0], message.len())?;
        // The head alone, or tonic would make the room behind the message.
        self.whole.push_back(message.split_to(HEAD));
        if !message.is_empty() {
            self.whole.push_back(message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::budget::Budget;
    use super::super::control::Control;
    use super::*;

    fn messages(max: usize) -> (Arc<Budget>, Messages) {
        let budget = Arc::new(Budget::new(max, "no room"));
        let live = Arc::new(Live::new(&Arc::new(Control::default()), &budget, None));
        let messages = Messages::new(&live);
        (budget, messages)
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let len = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &len[..], message].concat()
    }

    fn taken(messages: &mut Messages) -> Vec<u8> {
        std::iter::from_fn(|| messages.next()).flatten().collect()
    }

    #[test]
    fn messages_pass_as_they_are_wherever_they_are_cut() {
        let sent: Vec<u8> = ["one", "", "three and more", "4"]
            .iter()
            .flat_map(|message| framed(message.as_bytes()))
            .collect();
        let whole = Bytes::from(sent.clone());
        for first in 0..=sent.len() {
            for second in first..=sent.len() {
                let (_, mut messages) = messages(1 << 20);
                let mut passed = Vec::new();
                for part in [0..first, first..second, second..sent.len()] {
                    messages.add(whole.slice(part)).unwrap();
                    passed.extend(taken(&mut messages));
                }
                assert_eq!(passed, sent, "{first} {second}");
                assert!(messages.is_empty());
            }
        }
    }

    #[test]
    fn a_message_is_held_back_until_it_is_whole_and_counts_as_far_as_it_is_there() {
        let (budget, mut messages) = messages(4 * MAX_RECORD_LEN);
        let mut sent = Bytes::from(framed(&vec![7; MAX_RECORD_LEN]));
        let mut came = 0;
        while !sent.is_empty() {
            assert_eq!(taken(&mut messages), b"");
            assert!((came..=2 * came).contains(&budget.taken()), "{came}");
            assert!(budget.taken() <= HEAD + MAX_RECORD_LEN);
            let part = sent.split_to(1000.min(sent.len()));
            came += part.len();
            messages.add(part).unwrap();
        }
        // The head comes alone: only then does tonic make just the room that the message takes.
        assert_eq!(messages.next().unwrap().len(), HEAD);
        assert_eq!(messages.next().unwrap().len(), MAX_RECORD_LEN);
        assert!(messages.is_empty());
        assert_eq!(
            budget.taken(),
            HEAD + MAX_RECORD_LEN,
            "tonic's buffer stays"
        );
        drop(messages);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn what_tonic_refuses_by_its_head_is_not_waited_for() {
        let too_long = u32::try_from(MAX_RECORD_LEN + 1).unwrap().to_be_bytes();
        for head in [[&[0], &too_long[..]].concat(), vec![2, 0, 0, 0, 9]] {
            let (_, mut messages) = messages(1 << 20);
            messages.add(Bytes::from(head.clone())).unwrap();
            assert_eq!(taken(&mut messages), head);
        }
    }
}

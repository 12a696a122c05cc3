//! What a search remembers of its lists, so that each record is handed out once, and counted once in each list.

use crate::cid::{Cid, CidMap};

/// Who remembers.
pub(crate) trait Seen {
    /// What is handed out for a record.
    type Told: Send;

    /// A list begins.
    fn begin_list(&mut self);

    /// Its call is opened: the list has waited until a server could be asked.
    fn is_asked_for(&mut self) {}

    /// The list has this record.
    fn listed(&mut self, cid: Cid) -> Listed<Self::Told>;
}

/// What a record in a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed<T> {
    /// To be handed out.
    New(T),
    /// Known from before this list.
    Known,
    /// In this list for the second time.
    Twice,
}

/// What was handed out.
#[derive(Debug, Default)]
pub(super) struct HandedOut {
    /// Each with the list that it was last in. Behind 255 the numbers begin again: to take a list for an older one costs
    /// another list.
    cids: CidMap<u8>,
    list: u8,
}

impl Seen for HandedOut {
    type Told = Cid;

    fn begin_list(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    fn listed(&mut self, cid: Cid) -> Listed<Cid> {
        match self.cids.insert(&cid, self.list) {
            None => Listed::New(cid),
            Some(list) if list == self.list => Listed::Twice,
            Some(_) => Listed::Known,
        }
    }
}

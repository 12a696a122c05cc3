//! The records of all cases, with their CIDs. The last is in no case.

use std::sync::LazyLock;

use agntcy_dir_stream::{Cid, Record};

use crate::support::records::{cid, record};

pub(crate) struct Known {
    pub(crate) record: Record,
    pub(crate) cid: Cid,
}

/// How many a case may have.
pub(crate) const MOST_ITEMS: usize = 40;

pub(crate) static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let records = (0..=MOST_ITEMS).map(record);
    records
        .map(|record| Known {
            cid: cid(&record),
            record,
        })
        .collect()
});

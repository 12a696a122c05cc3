//! What the tests of the crate share, as far as it is of use here.
#![allow(dead_code)]

#[path = "../../tests/it/support/call_count.rs"]
pub(crate) mod call_count;
#[path = "../../tests/it/support/clock.rs"]
pub(crate) mod clock;
#[path = "../../tests/it/support/messages.rs"]
pub(crate) mod messages;
#[path = "../../tests/it/support/no_spin.rs"]
pub(crate) mod no_spin;
#[path = "../../tests/it/support/records.rs"]
pub(crate) mod records;
#[path = "../../tests/it/support/reply.rs"]
pub(crate) mod reply;

//! What the tests of the crate share, as far as it is of use here.
#![allow(dead_code)]

#[path = "../../tests/it/support/clock.rs"]
pub(crate) mod clock;
#[path = "../../tests/it/support/messages.rs"]
pub(crate) mod messages;
#[path = "../../tests/it/support/records.rs"]
pub(crate) mod records;
#[path = "../../tests/it/support/reply.rs"]
pub(crate) mod reply;

//! The queue and its workers as processes, with a real NATS server. `tests/interop/run nats` of the project builds one and
//! runs these.

#![allow(clippy::unwrap_used)]

mod dead_letters;
mod directory;
mod every_record_once;
mod figures;
mod nats;
mod processes;
mod publishing;
mod records;
mod waits;
mod workers;

//! What all operations run on: the window decides, calls carry, nodes say where the next call may go, and
//! the driver moves items between them.

mod adapter;
mod calls;
mod control;
mod driver;
mod nodes;
mod operation;
mod remainder;
mod tick;
mod waited;
mod window;

pub use self::adapter::{Adapter, BoxAdapter};
pub(crate) use self::control::Control;
pub(crate) use self::driver::drive;
pub(crate) use self::nodes::{Method, Methods};
pub(crate) use self::operation::{Operation, Place};
pub use self::remainder::{ItemResult, Leftover, Remainder};
pub(crate) use self::window::{Acknowledged, LostAnswer};

//! What all operations run on: the window decides, calls carry, nodes say where the next call may go, and
//! the driver moves items between them.

mod adapter;
mod calls;
mod clock;
mod control;
mod driver;
mod lesson;
mod log;
#[cfg(all(test, model))]
mod model;
mod nodes;
mod reader;
mod remainder;
mod server_stream;
mod source;
mod spread;
mod tick;
mod waited;
mod window;

pub use self::adapter::{Adapter, BoxAdapter};
pub(crate) use self::calls::without_the_middle;
pub(crate) use self::clock::Clock;
pub(crate) use self::control::Control;
pub(crate) use self::driver::drive;
pub(crate) use self::nodes::Methods;
pub(crate) use self::reader::{Broke, Reader, Said, Why};
pub use self::remainder::{ItemResult, Leftover, Remainder};
pub(crate) use self::server_stream::ServerStream;
pub use self::source::Source;
pub(crate) use self::spread::Pool;

//! Files that are read whole.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// What a file has, if that is no longer than `longest` bytes: it may be one that never ends.
pub(super) fn read(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = File::open(path)?
        .take(longest + 1)
        .read_to_end(&mut content)?;
    if read as u64 > longest {
        let words = format!("it is longer than {longest} bytes");
        return Err(io::Error::other(words));
    }
    Ok(content)
}

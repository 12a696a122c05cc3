//! What tells one input file from another.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::line::hex;

/// How much of a file is in memory at once.
const PIECE: usize = 64 << 10;

/// An identity for an input file: its length, and the SHA-256 of its content. It blocks: the whole file is read.
///
/// A file that has grown is another one. Where lines are only added, take a name of yours as the identity, such as the
/// file's path.
///
/// ```
/// use agntcy_dir_stream::checkpoint::fingerprint;
///
/// # let path = std::env::temp_dir().join(format!("fingerprint-{}", std::process::id()));
/// std::fs::write(&path, "abc")?;
/// assert_eq!(
///     fingerprint(&path)?,
///     "3 bytes, sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
/// );
/// # std::fs::remove_file(&path)?;
/// # Ok::<_, std::io::Error>(())
/// ```
///
/// # Errors
///
/// Those of reading the file.
pub fn fingerprint(path: impl AsRef<Path>) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut len) = (Sha256::new(), 0_u64);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&piece[..read]);
                len += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let hash = hex(&hash.finalize().into());
    let hash = str::from_utf8(&hash).expect("digits are ASCII");
    Ok(format!("{len} bytes, sha256 {hash}"))
}

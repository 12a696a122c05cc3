//! How much memory reading takes.

/// Runs `read`, which may have this many bytes at a time.
pub fn bounded<T>(what: &str, most: usize, read: impl FnOnce() -> T) -> T {
    let mut value = None;
    let used = allocation_counter::measure(|| value = Some(read()));
    assert!(
        used.bytes_max <= most as u64,
        "{what} takes {} bytes of memory, {most} is the limit",
        used.bytes_max
    );
    value.expect("it was read")
}

/// What [`Record`](agntcy_dir_stream::Record) promises of reading so many bytes, beside what is made of them.
#[must_use]
pub fn of_reading(bytes: usize) -> usize {
    16 * bytes + (1 << 20)
}

//! Child processes: this binary again with other arguments, or a peer's own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// This binary again.
pub fn again(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    Ok(command)
}

/// Runs a program to its end, with `input` as its standard input, and gives what it prints. When
/// it fails, what it has said on standard error is the error.
pub fn output(command: &mut Command, input: &[u8]) -> anyhow::Result<String> {
    let name = format!("{:?}", command.get_program());
    let mut child = command
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| name.clone())?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that fails early does not read it all, and says why by itself.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", in_a_cell(&words));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What a program says when it fails, as the cell of a table has it.
fn in_a_cell(words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    words
        .join(" ")
        .replace('|', "/")
        .chars()
        .take(300)
        .collect()
}

/// Ends this child with an error if it hangs.
pub fn give_up_after(time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        eprintln!("it was not done after {} s", time.as_secs());
        std::process::exit(1);
    });
}

/// A child that serves until this is dropped.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    /// Starts a server that prints its URL as its first line, and ends with its standard input: so
    /// it does not outlive this process, however that ends.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut url = String::new();
        let stdout = child.stdout.take().context("it is piped")?;
        BufReader::new(stdout).read_line(&mut url)?;
        ensure!(url.starts_with("http://"), "the server did not start");
        let url = url.trim().to_owned();
        Ok(Self { child, url })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns when standard input ends.
pub fn stdin_ended() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

//! What was measured in files beside this package: the figures as they are, and as pictures.

mod bars;
mod lines;
mod sweeps;

use std::fs;

use anyhow::Context as _;

use crate::scenarios::Point;

const FIGURES: &str = "figures.csv";
const SWEEP: &str = "sweep.csv";

/// The columns of the figures.
pub const HEAD: &str = "operation,threads,way,cpu_us,wall_us";

/// Keeps the figures of a run, and draws them.
pub fn save(figures: &str) -> anyhow::Result<()> {
    write(FIGURES, figures)?;
    draw_saved()
}

/// Keeps what a sweep gave, and draws it.
pub fn save_sweep(points: &[Point]) -> anyhow::Result<()> {
    write(SWEEP, &sweeps::write(points))?;
    draw_saved()
}

/// Draws all that was kept.
pub fn draw_saved() -> anyhow::Result<()> {
    write("figures.svg", &bars::draw(&read(FIGURES)?)?)?;
    let points = sweeps::read(&read(SWEEP)?)?;
    for picture in &sweeps::PICTURES {
        write(picture.file, &picture.draw(&points)?)?;
    }
    Ok(())
}

fn read(name: &str) -> anyhow::Result<String> {
    fs::read_to_string(path(name)).context(path(name))
}

fn write(name: &str, text: &str) -> anyhow::Result<()> {
    fs::write(path(name), text).context(path(name))
}

fn path(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))
}

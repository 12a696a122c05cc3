//! What is printed: Markdown.

/// An aim, and how far it was reached.
pub struct Aim {
    what: String,
    aim: String,
    reached: String,
    met: Option<bool>,
}

impl Aim {
    pub fn at_most(what: impl Into<String>, bound: f64, unit: &str, reached: f64) -> Self {
        Self {
            what: what.into(),
            aim: format!("≤ {bound}{unit}"),
            reached: format!("{reached:.2}{unit}"),
            met: Some(reached <= bound),
        }
    }

    pub fn at_least(what: impl Into<String>, bound: f64, unit: &str, reached: f64) -> Self {
        Self {
            what: what.into(),
            aim: format!("≥ {bound}{unit}"),
            reached: format!("{reached:.2}{unit}"),
            met: Some(reached >= bound),
        }
    }

    /// One that could not be looked at, and why.
    pub fn unknown(
        what: impl Into<String>,
        aim: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            aim: aim.into(),
            reached: why.into(),
            met: None,
        }
    }

    pub fn is_met(&self) -> bool {
        self.met == Some(true)
    }

    /// More to be said of what was reached.
    pub fn with(mut self, more: impl AsRef<str>) -> Self {
        self.reached = format!("{} ({})", self.reached, more.as_ref());
        self
    }

    pub fn row(&self) -> Vec<String> {
        let met = match self.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let cells = [&self.what, &self.aim, &self.reached];
        cells.into_iter().cloned().chain([met.to_owned()]).collect()
    }
}

/// A table in Markdown, its columns as wide as they have to be.
pub fn print(head: &[&str], rows: &[Vec<String>]) {
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let cells = cells.map(|cell| cell.chars().count());
        cells
            .chain([head[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(wide).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells
            .zip(&widths)
            .map(|(cell, wide)| format!(" {cell:<wide$} |"));
        println!("|{}", cells.collect::<String>());
    };
    line(&mut head.iter().copied());
    let rules: Vec<String> = widths.iter().map(|wide| "-".repeat(*wide)).collect();
    line(&mut rules.iter().map(String::as_str));
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}

//! What an adapter has seen of how far calls may run ahead.

/// The window gives it, and the nodes keep it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lesson {
    /// How many requests a call may have unanswered.
    pub(crate) depth: f64,
    /// How much evidence there is, in ends of calls.
    pub(crate) weight: f64,
}

//! What the commands over inputs have in common.

use std::path::PathBuf;
use std::sync::Arc;

use agntcy_dir_stream::{Adapter, Checkpoint, Client, ItemResult, Options};
use futures_util::{Stream, StreamExt as _};

use crate::account::{Job, account};
use crate::exit::Exit;
use crate::input::{self, Input, Reached};
use crate::outcome::Outcome;
use crate::output::{self, Lines};
use crate::{pace, server};

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) input: input::Arguments,
    #[command(flatten)]
    resume: input::Resume,
    #[command(flatten)]
    pub(crate) pace: pace::Arguments,
    #[command(flatten)]
    pub(crate) server: server::Arguments,
    #[command(flatten)]
    pub(crate) output: output::Arguments,
}

/// All that is needed to begin.
pub(crate) struct Work<'a> {
    pub(crate) client: Client,
    pub(crate) options: Options,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) lines: Lines,
    pub(crate) output: &'a output::Arguments,
}

impl Arguments {
    /// Finds the inputs, which are CIDs or files of them.
    pub(crate) fn cids(&self) -> anyhow::Result<Input> {
        self.cids_without(None)
    }

    /// The same without this file, which is written.
    pub(crate) fn cids_without(&self, written: Option<&PathBuf>) -> anyhow::Result<Input> {
        let mut outputs = self.output.files();
        outputs.extend(written);
        self.input.find_cids(&self.resume, &outputs)
    }

    /// Finds the inputs, which are files.
    pub(crate) fn files(&self) -> anyhow::Result<Input> {
        self.input.find(&self.resume, &self.output.files())
    }

    /// Connects, and opens what is written. `what` is done, and to what beside the server: a checkpoint is of that alone.
    /// `is_taken`: standard output has something else than results.
    pub(crate) async fn begin(
        &self,
        input: &Input,
        what: &[&str],
        is_taken: bool,
    ) -> anyhow::Result<Work<'_>> {
        let client = self.server.connect(self.pace.breaker()).await?;
        let server = self.server.name();
        let checkpoint = input.checkpoint(&[what, &[&server]].concat())?;
        let lines = self.output.open(is_taken, checkpoint.as_ref())?;
        Ok(Work {
            client,
            // What is no value is none the next time.
            options: self.pace.options().resume_past_input_errors(true),
            checkpoint,
            lines,
            output: &self.output,
        })
    }
}

impl Work<'_> {
    /// Reads this pipeline of one stage to its end. `outcome` is what becomes of a result.
    pub(crate) async fn account_for<S, G>(
        self,
        name: &'static str,
        reached: Arc<Reached>,
        results: Adapter<S, G>,
        outcome: impl FnMut(G::Item) -> anyhow::Result<Outcome> + Send + 'static,
    ) -> anyhow::Result<Exit>
    where
        S: Send + 'static,
        G: Stream<Item: ItemResult + Send> + Send + 'static,
        Adapter<S, G>: Stream<Item = G::Item> + Send,
    {
        let results = match &self.checkpoint {
            Some(checkpoint) => results.resume_from(checkpoint),
            None => results,
        };
        let job = Job {
            name,
            handles: vec![results.handle()],
            outcomes: results.map(outcome).boxed(),
            reached: Some(reached),
            checkpoint: self.checkpoint,
        };
        account(job, self.lines, self.output).await
    }
}

//! `dirstream push`: records in, signed and published if wanted.

use std::num::NonZero;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{Pushed, SignFailed, ToCid, TryFailed, TryPublishResult, TryPushResult};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::account::{Job, account};
use crate::exit::Exit;
use crate::input::{Input, Origin, Unread};
use crate::outcome::{Failure, Outcome, words};
use crate::output::Lines;
use crate::signer::{NotSigned, Signer};
use crate::work::{self, Work};

/// Push records; sign and publish them, too.
///
/// A record that the server refuses fails alone. What breaks is tried again. The line of a record has its CID, and whether it
/// was `already_stored`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out what the server has already: most, where the same records are pushed every night.
    #[arg(long)]
    skip_stored: bool,

    /// Push nothing: say what is no record, which CIDs the others have, and, with --skip-stored, which of them the server
    /// lacks.
    #[arg(long, conflicts_with_all = ["sign_with", "publish", "checkpoint"])]
    dry_run: bool,

    /// Send records without a name or a schema_version, too. No server takes them, and some take long to say so.
    #[arg(long)]
    no_check: bool,

    /// Refuse records with numbers that no 64-bit float holds, and objects with two equal keys, which a server would change.
    #[arg(long)]
    strict: bool,

    /// Sign what is pushed with this command: it is run by `sh -c` for each record.
    ///
    /// It has the CID in the variable DIR_CID, and the record as JSON on standard input. On standard output it gives
    /// referrers, as `dirstream referrers push` takes them, without `cid`:
    /// {"type": "agntcy.dir.sign.v1.Signature", "data": {…}}. It is not run for a record that was stored before and has a
    /// signature, so the same command can be run again; a checkpoint does not go with it.
    #[arg(long, value_name = "COMMAND", conflicts_with = "checkpoint")]
    sign_with: Option<String>,

    /// How many of these commands run at once.
    #[arg(long, value_name = "N", default_value = "8", requires = "sign_with")]
    signers: NonZero<usize>,

    /// How long one of them may take.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "60",
        requires = "sign_with"
    )]
    sign_timeout: NonZero<u64>,

    /// Publish what is pushed, and signed if that is wanted. It may be run again; a checkpoint does not go with it.
    #[arg(long, conflicts_with = "checkpoint")]
    publish: bool,

    #[command(flatten)]
    work: work::Arguments,
}

/// What comes back with a record.
#[derive(Default)]
struct Tag {
    origin: Option<Origin>,
    /// For the signer.
    record: Option<Record>,
    /// What the push has said, for the stages behind it.
    already_stored: Option<bool>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let input = arguments.work.files()?;
    let (job, lines) = match arguments.dry_run {
        true => dry(&arguments, input).await?,
        false => wet(&arguments, input).await?,
    };
    account(job, lines, &arguments.work.output).await
}

async fn wet(arguments: &Arguments, input: Input) -> anyhow::Result<(Job, Lines)> {
    let Work {
        client,
        options,
        checkpoint,
        lines,
        ..
    } = arguments.work.begin(&input, &["push"], false).await?;
    let values = input.records(arguments.strict);
    let (checks, signs) = (!arguments.no_check, arguments.sign_with.is_some());
    let records = values.values.map(move |value| {
        let (record, origin) = value?;
        let kept = signs.then(|| record.clone());
        let tag = Tag {
            origin,
            record: kept,
            ..Tag::default()
        };
        let check = |record: &Record| match checks {
            true => record.check_required(),
            false => Ok(()),
        };
        Ok((record, tag).precheck(check))
    });
    let pushing = options.clone().skip_stored(arguments.skip_stored);
    let pushed = records.try_push_to_with(&client, &pushing);
    let pushed = match &checkpoint {
        Some(checkpoint) => pushed.resume_from(checkpoint),
        None => pushed,
    };
    let mut handles = vec![pushed.handle()];
    let pushed = pushed.map_ok(|pushed| {
        let stored = pushed.already_stored;
        let (pushed, mut tag) = pushed.take_tag();
        tag.already_stored = Some(stored);
        pushed.with_tag(tag)
    });
    let outcomes = match &arguments.sign_with {
        None if !arguments.publish => pushed.map(of_push).boxed(),
        None => {
            let published = pushed.try_publish_to_with(&client, &options);
            handles.push(published.handle());
            let of_failed = |failed| of_push(Err(failed));
            published
                .map(move |result| of_publish(result, false, of_failed))
                .boxed()
        }
        Some(command) => {
            let signer = Signer::new(command, arguments.sign_timeout.get(), &client);
            let sign = move |pushed: &Pushed<Tag>| signer.sign(pushed, pushed.tag.record.clone());
            let signers = arguments.signers.get();
            let signed = pushed.sign_with_options(&client, &options, signers, sign);
            handles.push(signed.handle());
            match arguments.publish {
                false => {
                    let of_signed = |result: SignResult<_, _, _>| match result {
                        Ok(signed) => {
                            let mut outcome = of_push(Ok(signed.pushed));
                            outcome.done.signed = Some(true);
                            outcome
                        }
                        Err(failed) => of_sign_failed(failed),
                    };
                    signed.map(of_signed).boxed()
                }
                true => {
                    let published = signed.try_publish_to_with(&client, &options);
                    handles.push(published.handle());
                    published
                        .map(|result| of_publish(result, true, of_sign_failed))
                        .boxed()
                }
            }
        }
    };
    let job = Job {
        name: "push",
        outcomes: outcomes.map(Ok).boxed(),
        handles,
        reached: Some(values.reached),
        checkpoint,
    };
    Ok((job, lines))
}

async fn dry(arguments: &Arguments, input: Input) -> anyhow::Result<(Job, Lines)> {
    let client = match arguments.skip_stored {
        true => Some(
            arguments
                .work
                .server
                .connect(arguments.work.pace.breaker())
                .await?,
        ),
        false => None,
    };
    let lines = arguments.work.output.open(false, None)?;
    let values = input.records(arguments.strict);
    let checks = !arguments.no_check;
    let cids = values.values.map(move |value| {
        let (record, origin) = value?;
        let checked = match checks {
            true => record.check_required(),
            false => Ok(()),
        };
        match checked.and_then(|()| record.cid()) {
            Ok(cid) => Ok((cid, origin)),
            Err(error) => Err(Unread {
                origin,
                kind: error.kind(),
                message: words(&error),
            }),
        }
    });
    let would_push = |mut outcome: Outcome| {
        outcome.done.would = Some("push");
        outcome
    };
    let (outcomes, handles) = match client {
        None => {
            let outcomes = cids.enumerate().map(move |(index, value)| match value {
                Ok((cid, origin)) => would_push(Outcome::new(index as u64, origin, cid)),
                Err(unread) => Outcome::unread(index as u64, unread),
            });
            (outcomes.boxed(), Vec::new())
        }
        Some(client) => {
            let found = cids.try_exists_in_with(&client, &arguments.work.pace.options());
            let handle = found.handle();
            let outcomes = found.map(move |result| match result {
                Ok(found) => {
                    let mut outcome = Outcome::new(found.index, found.tag, found.cid);
                    outcome.done.already_stored = Some(found.exists);
                    match found.exists {
                        true => outcome,
                        false => would_push(outcome),
                    }
                }
                Err(failed) => Outcome::of_ref(failed),
            });
            (outcomes.boxed(), vec![handle])
        }
    };
    let job = Job {
        name: "push, dry run",
        outcomes: outcomes.map(Ok).boxed(),
        handles,
        reached: Some(values.reached),
        checkpoint: None,
    };
    Ok((job, lines))
}

fn of_push(result: TryPushResult<Unread, Tag>) -> Outcome {
    match result {
        Ok(pushed) => {
            let mut outcome = Outcome::new(pushed.index, pushed.tag.origin, pushed.cid);
            outcome.done.already_stored = Some(pushed.already_stored);
            outcome.done.duplicate_of = pushed.duplicate_of;
            outcome
        }
        Err(TryFailed::Input(unread)) => Outcome::unread(unread.index, unread.error),
        Err(TryFailed::Item(failed)) => {
            let (failed, tag) = failed.take_tag();
            let cid = failed.input.cid().ok();
            Outcome::of_item(failed, tag.origin, cid)
        }
    }
}

fn of_sign_failed(failed: SignFailed<Tag, TryFailed<Unread, Record, Tag>, NotSigned>) -> Outcome {
    let failed_with = |pushed: Pushed<Tag>, kind, message, attempts| {
        let failure = Failure {
            stage: "sign",
            kind,
            message,
            attempts,
            cid: Some(pushed.cid),
        };
        Outcome::failed(pushed.index, pushed.tag.origin, failure)
    };
    match failed {
        SignFailed::NotPushed(failed) => of_push(Err(failed)),
        SignFailed::NotSigned { pushed, error } => failed_with(
            pushed,
            error.kind,
            format!("pushed, not signed: {error}"),
            0,
        ),
        SignFailed::NotAttached { pushed, referrers } => {
            let first = referrers.into_iter().find_map(Result::err);
            match first {
                Some(first) => {
                    let message = format!("pushed, its signature was not: {}", words(&first.error));
                    failed_with(pushed, first.kind(), message, first.attempts)
                }
                None => of_push(Ok(pushed)),
            }
        }
        _ => unreachable!("the library is the one of this version"),
    }
}

fn of_publish<E, I>(
    result: TryPublishResult<E, I, Tag>,
    signs: bool,
    of_failed: impl FnOnce(E) -> Outcome,
) -> Outcome
where
    I: ToCid,
{
    match result {
        Ok(published) => {
            let Tag {
                origin,
                already_stored,
                ..
            } = published.tag;
            let mut outcome = Outcome::new(published.index, origin, published.cid);
            outcome.done.already_stored = already_stored;
            outcome.done.signed = signs.then_some(true);
            outcome.done.publication = Some(published.publication);
            outcome.done.duplicate_of = published.duplicate_of;
            outcome
        }
        Err(TryFailed::Input(before)) => of_failed(before.error),
        Err(TryFailed::Item(failed)) => {
            let (failed, tag) = failed.take_tag();
            let cid = failed.input.to_cid().ok();
            let mut outcome = Outcome::of_item(failed, tag.origin, cid);
            if let Some(error) = &mut outcome.error {
                error.message = format!("pushed, not published: {}", error.message);
            }
            outcome
        }
    }
}

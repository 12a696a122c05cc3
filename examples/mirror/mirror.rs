//! Keeps one store as another is.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use agntcy_dir_stream::{Change, Error, ErrorKind, FollowResult, TryFailed};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::time::timeout;

/// How many changes are carried out together at most.
const BATCH: usize = 4096;

/// When what has failed is tried again, if nothing else changes: first, and at last.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// What was done in the copy.
pub(crate) enum Done<'a> {
    Pushed(Cid),
    Deleted(Cid),
    Failed(Cid, &'a Error),
}

impl fmt::Display for Done<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pushed(cid) => write!(f, "{cid} is there"),
            Self::Deleted(cid) => write!(f, "{cid} is gone"),
            Self::Failed(cid, error) => write!(f, "{cid}: {error}"),
        }
    }
}

/// How a mirror works.
pub(crate) struct Settings {
    /// Of its pulls, pushes and deletes.
    pub(crate) options: Options,
    /// Whether what `from` does not have is deleted in `to`.
    pub(crate) deletes: bool,
    /// Whether what has failed, and may do better later, is tried again.
    pub(crate) tries_again: bool,
}

/// Carries out in `to` what changes in `from`: `changes` is what [`Client::follow`] tells of it. It ends with these.
/// `done` is told of each record.
///
/// What others do to `to` in the meantime is not seen: it is looked at when the mirror begins.
///
/// # Errors
///
/// Those of `changes`, and of the search for what `to` has at the beginning.
pub(crate) async fn mirror(
    from: &Client,
    to: &Client,
    changes: impl Stream<Item = FollowResult>,
    settings: &Settings,
    done: impl FnMut(Done<'_>),
) -> Result<(), Error> {
    let mut mirror = Mirror {
        from,
        to,
        settings,
        done,
        there: to.search(Query::new()).try_collect().await?,
        unsure: HashSet::new(),
        wanted: HashSet::new(),
        plan: BTreeMap::new(),
    };
    // The last change of a record is the one that counts, so records that come and go are not even pulled.
    let mut changes = pin!(changes.ready_chunks(BATCH));
    let mut again = AGAIN.0;
    loop {
        let changes = match mirror.plan.is_empty() {
            true => changes.next().await,
            false => match timeout(again, changes.next()).await {
                Ok(changes) => changes,
                Err(_) => {
                    again = AGAIN.1.min(again * 2);
                    Some(Vec::new())
                }
            },
        };
        let Some(changes) = changes else {
            return Ok(());
        };
        for change in changes {
            let change = match change {
                Ok(change) => change,
                Err(error) => {
                    // What was told before it holds.
                    mirror.carry_out().await;
                    return Err(error);
                }
            };
            if change != Change::Confirmed {
                again = AGAIN.0;
            }
            mirror.note(change);
        }
        mirror.carry_out().await;
    }
}

struct Mirror<'a, F> {
    from: &'a Client,
    to: &'a Client,
    settings: &'a Settings,
    done: F,
    /// What `to` has.
    there: HashSet<Cid>,
    /// Of these it is not known whether `to` has them: it was told, and did not answer.
    unsure: HashSet<Cid>,
    /// What `from` had at the beginning, until that is over.
    wanted: HashSet<Cid>,
    /// Whether a record is to be there, for each of which that is not done yet.
    plan: BTreeMap<Cid, bool>,
}

impl<F: FnMut(Done<'_>)> Mirror<'_, F> {
    fn note(&mut self, change: Change) {
        match change {
            Change::InitApply(cid) => {
                self.wanted.insert(cid);
                self.plan.insert(cid, true);
            }
            Change::InitDone => {
                let wanted = std::mem::take(&mut self.wanted);
                if self.settings.deletes {
                    // What `from` has lost while nobody followed it.
                    let gone = self.there.difference(&wanted);
                    self.plan.extend(gone.map(|cid| (*cid, false)));
                }
            }
            Change::Apply(cid) => drop(self.plan.insert(cid, true)),
            Change::Delete(cid) if self.settings.deletes => drop(self.plan.insert(cid, false)),
            Change::Delete(cid) => drop(self.plan.remove(&cid)),
            _ => {}
        }
    }

    /// Does what is planned. What fails and may do better later stays planned.
    async fn carry_out(&mut self) {
        let (there, unsure) = (&self.there, &self.unsure);
        self.plan
            .retain(|cid, wanted| there.contains(cid) != *wanted || unsure.contains(cid));
        let (come, go): (Vec<_>, Vec<_>) = self.plan.iter().partition(|(_, wanted)| **wanted);
        let come: Vec<_> = come.into_iter().map(|(cid, _)| (*cid, *cid)).collect();
        let go: Vec<_> = go.into_iter().map(|(cid, _)| *cid).collect();

        let options = &self.settings.options;
        let pulled = stream::iter(come).pull_from_with(self.from, options);
        let mut pushed = pulled.try_push_to_with(self.to, options);
        while let Some(result) = pushed.next().await {
            match result {
                Ok(pushed) => {
                    self.plan.remove(&pushed.cid);
                    self.unsure.remove(&pushed.cid);
                    self.there.insert(pushed.cid);
                    (self.done)(Done::Pushed(pushed.cid));
                }
                Err(TryFailed::Input(failed)) => self.failed(failed.error.tag, &failed.error.error),
                Err(TryFailed::Item(failed)) => self.failed(failed.tag, &failed.error),
            }
        }

        let mut deleted = stream::iter(go).delete_from_with(self.to, options);
        while let Some(result) = deleted.next().await {
            match result {
                Ok(deleted) => {
                    self.plan.remove(&deleted.cid);
                    self.unsure.remove(&deleted.cid);
                    self.there.remove(&deleted.cid);
                    (self.done)(Done::Deleted(deleted.cid));
                }
                Err(failed) => self.failed(failed.input, &failed.error),
            }
        }
    }

    fn failed(&mut self, cid: Cid, error: &Error) {
        (self.done)(Done::Failed(cid, error));
        // It was deleted meanwhile. That is told next, or, if the event was lost, after the next list.
        let is_gone = error.kind() == ErrorKind::NotFound;
        if !self.settings.tries_again || error.is_of_item() && !is_gone {
            self.plan.remove(&cid);
        } else if error.may_have_landed() {
            self.unsure.insert(cid);
        }
    }
}

//! Operations over words, of each kind that there is: an answer says the words again, or that it failed.

use std::marker::PhantomData;

use agntcy_dir_stream::operation::{Acknowledged, Done, LostAnswer, Operation, Place, Question};
use agntcy_dir_stream::{Error, ErrorKind};
use prost::Message;

pub(crate) const SAY: &str = "/example.v1.Words/Say";
pub(crate) const FIND: &str = "/example.v1.Words/Find";

/// The answer that says that the server failed at this attempt.
pub(crate) const FAILED: &str = "failed";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Words {
    #[prost(string, repeated, tag = "1")]
    pub(crate) words: Vec<String>,
}

impl Words {
    pub(crate) fn of(word: &str) -> Self {
        Self {
            words: vec![word.to_owned()],
        }
    }
}

/// What differs between the operations.
pub(crate) trait Kind {
    const ACKNOWLEDGED: Acknowledged;
    const LOST_ANSWER: LostAnswer;
    const MAY_REPEAT: bool = matches!(Self::LOST_ANSWER, LostAnswer::AskAgain);
    const MAX_ANSWER_LEN: usize = 4 << 20;
}

/// The operation of a kind.
pub(crate) struct Say<K>(PhantomData<fn(K)>);

impl<K> Say<K> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K: Kind> Operation for Say<K> {
    const NAME: &'static str = "say";
    const METHOD: &'static str = SAY;
    const ACKNOWLEDGED: Acknowledged = K::ACKNOWLEDGED;
    const LOST_ANSWER: LostAnswer = K::LOST_ANSWER;
    const MAX_ANSWER_LEN: usize = K::MAX_ANSWER_LEN;
    const MAY_REPEAT: bool = K::MAY_REPEAT;
    const ANSWERS_MAY_FAIL: bool = true;

    type Input = String;
    type Checked = ();
    type Request = Words;
    type Answer = Words;
    type Output = Vec<String>;
    type Question = Find;
    type Success<T> = Done<Vec<String>, T>;

    fn check(&self, _: &String) -> Result<(), Error> {
        Ok(())
    }

    fn request(&self, word: &String, (): &()) -> Words {
        Words::of(word)
    }

    fn accept(&self, _: &String, (): &(), answer: Words) -> Result<Vec<String>, Error> {
        match answer.words.first().is_some_and(|word| word == FAILED) {
            true => Err(Error::new(
                ErrorKind::ServerFailed,
                "the answer says that it failed",
            )),
            false => Ok(answer.words),
        }
    }

    fn may_pass(error: &Error) -> bool {
        error.kind() == ErrorKind::ServerFailed
    }

    fn join(&self, outputs: Vec<Vec<String>>) -> Result<Vec<String>, Error> {
        Ok(outputs.into_iter().flatten().collect())
    }

    fn question(&self, word: &String, (): &()) -> Option<Words> {
        // There are words that nothing can ask for.
        (!word.starts_with('?')).then(|| Words::of(word))
    }

    fn found(&self, _: &String, (): &(), answer: Words) -> Result<Vec<String>, Error> {
        Ok(answer.words)
    }

    fn success<T>(place: Place<T>, (): (), words: Vec<String>) -> Done<Vec<String>, T> {
        Done::new(place, words)
    }
}

pub(crate) struct Find;

impl Question for Find {
    const METHOD: &'static str = FIND;
    type Request = Words;
    type Answer = Words;

    fn is_answered_by(request: &Words, answer: &Words) -> bool {
        request == answer
    }
}

/// Reads, each item with an answer of its own.
pub(crate) struct Read;

impl Kind for Read {
    const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;
}

/// Writes what must not be written twice.
pub(crate) struct WriteOnce;

impl Kind for WriteOnce {
    const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::LookUp;
}

/// The same, with a call for each item.
pub(crate) struct WriteOneOnce;

impl Kind for WriteOneOnce {
    const ACKNOWLEDGED: Acknowledged = Acknowledged::OneItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::LookUp;
}

/// Lists: a call for each item, with any number of answers.
pub(crate) struct List;

impl Kind for List {
    const ACKNOWLEDGED: Acknowledged = Acknowledged::OneItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;
    const MAX_ANSWER_LEN: usize = 1024;
}

/// One call with one message for all.
pub(crate) struct Batch;

impl Kind for Batch {
    const ACKNOWLEDGED: Acknowledged = Acknowledged::WholeBatch;
    const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;
}

/// One call for all, with a message for each.
pub(crate) struct Whole;

impl Kind for Whole {
    const ACKNOWLEDGED: Acknowledged = Acknowledged::WholeCall;
    const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;
}

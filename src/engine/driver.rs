//! The generator: takes items in, keeps a call going, hands results out.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::Operation;
use super::call::{Call, Event};
use super::window::{Acknowledged, Limits, Settled, Window};
use crate::client::Transport;
use crate::error::Failed;
use crate::item::Tagged;
use crate::options::Options;

/// How many items are taken from an input that is always ready, before the task's other work
/// gets a turn.
const TAKEN_AT_ONCE: usize = 256;

/// The results of `operation` over `input`, in input order. Nothing happens before the first poll.
pub(crate) fn drive<S, O, T>(
    input: S,
    operation: O,
    transport: Arc<dyn Transport>,
    options: &Options,
) -> impl Stream<Item = Result<O::Success<T>, Failed<O::Input, T>>> + use<S, O, T>
where
    S: Stream,
    S::Item: Tagged<Input = O::Input, Tag = T>,
    O: Operation,
{
    let limits = Limits {
        items: options.window.get(),
        bytes: options.window_bytes.get(),
    };
    async_stream::stream! {
        let mut input = pin!(input);
        let mut driver = Driver {
            operation,
            transport,
            window: Window::new(limits, O::ACKNOWLEDGED, O::LOST),
            call: None,
            batch: VecDeque::new(),
            input_ended: false,
        };
        while poll_fn(|cx| driver.poll_results(cx, input.as_mut())).await {
            while let Some(Settled { index, entry, attempts, outcome }) = driver.window.pop() {
                yield match outcome {
                    Ok(output) => Ok(O::success(index, entry.tag, output)),
                    Err(error) => Err(Failed {
                        index,
                        input: entry.input,
                        tag: entry.tag,
                        attempts,
                        error,
                    }),
                };
            }
        }
    }
}

/// An item in the window.
struct Entry<O: Operation, T> {
    input: O::Input,
    tag: T,
    /// What [`Operation::check`] gave, or why the item must not be sent.
    asked: Option<O::Asked>,
}

struct Driver<O: Operation, T> {
    operation: O,
    transport: Arc<dyn Transport>,
    window: Window<Entry<O, T>, O::Output>,
    call: Option<Call<O::Request, O::Answer>>,
    /// Requests on their way from the window to the call; empty between polls.
    batch: VecDeque<O::Request>,
    input_ended: bool,
}

impl<O: Operation, T> Driver<O, T> {
    /// Works until the window has a result to hand out (`true`), or all is done (`false`).
    ///
    /// Answers that are there are taken before the input is asked for more, so that new requests
    /// leave in batches and not one for each answer; but the line must not run dry, so an input
    /// is asked first when half the window is free.
    fn poll_results<S>(&mut self, cx: &mut Context<'_>, mut input: Pin<&mut S>) -> Poll<bool>
    where
        S: Stream,
        S::Item: Tagged<Input = O::Input, Tag = T>,
    {
        let mut filled = false;
        loop {
            if self.window.has_result() {
                return Poll::Ready(true);
            }
            if !filled && self.window.is_half_empty() {
                filled = true;
                self.fill(cx, input.as_mut());
                continue;
            }
            if let Some(call) = &mut self.call
                && let Poll::Ready(event) = call.poll_event(cx)
            {
                // What an ended call leaves waiting has to be sent again.
                filled &= self.call_event(event);
                continue;
            }
            if !filled {
                filled = true;
                self.fill(cx, input.as_mut());
                continue;
            }
            let done = self.input_ended && self.window.is_empty() && self.call.is_none();
            return if done {
                Poll::Ready(false)
            } else {
                Poll::Pending
            };
        }
    }

    /// Takes what the input has and the window has room for, and sends it.
    fn fill<S>(&mut self, cx: &mut Context<'_>, mut input: Pin<&mut S>)
    where
        S: Stream,
        S::Item: Tagged<Input = O::Input, Tag = T>,
    {
        let mut left = TAKEN_AT_ONCE;
        let mut interrupted = false;
        while !self.input_ended && self.window.has_room() {
            if left == 0 {
                interrupted = true;
                cx.waker().wake_by_ref();
                break;
            }
            left -= 1;
            match input.as_mut().poll_next(cx) {
                Poll::Ready(Some(item)) => self.take(item),
                Poll::Ready(None) => self.input_ended = true,
                Poll::Pending => break,
            }
        }
        self.send(interrupted);
    }

    fn take(&mut self, item: impl Tagged<Input = O::Input, Tag = T>) {
        let (input, tag) = item.untag();
        let bytes = self.operation.size(&input);
        match self.operation.check(&input) {
            Ok(asked) => {
                let asked = Some(asked);
                self.window.take(Entry { input, tag, asked }, bytes);
            }
            Err(error) => {
                let asked = None;
                self.window
                    .refuse(Entry { input, tag, asked }, bytes, error);
            }
        }
    }

    /// Hands what waits to the call, opening one if there is none.
    fn send(&mut self, more_is_ready: bool) {
        if self.call.as_ref().is_some_and(Call::is_finished) {
            return;
        }
        while let Some(entry) = self.window.send_next() {
            let asked = entry.asked.as_ref().expect("only what was checked waits");
            self.batch
                .push_back(self.operation.request(&entry.input, asked));
        }
        if !self.batch.is_empty() {
            self.call
                .get_or_insert_with(|| Call::open(Arc::clone(&self.transport), O::METHOD))
                .send(&mut self.batch);
        }
        let all_sent = match O::ACKNOWLEDGED {
            Acknowledged::EachItem => self.input_ended,
            // The answer comes when the segment is closed, so it closes when nothing more is at
            // hand.
            Acknowledged::WholeCall => !more_is_ready || self.window.segment_is_full(),
        };
        if all_sent && let Some(call) = &mut self.call {
            call.finish();
        }
    }

    /// Takes an event of the call in. Whether the call goes on.
    fn call_event(&mut self, event: Event<O::Answer>) -> bool {
        let operation = &self.operation;
        let accept = |entry: &Entry<O, T>, answer| {
            let asked = entry.asked.as_ref().expect("only what was checked is sent");
            operation.accept(&entry.input, asked, answer)
        };
        match event {
            Event::Answer(_) if O::ACKNOWLEDGED == Acknowledged::WholeCall => true,
            Event::Answer(answer) => {
                let expected = self.window.answer(|entry| accept(entry, answer));
                if !expected {
                    // The server does not keep to the protocol: what it says next could be
                    // anybody's.
                    self.call = None;
                }
                expected
            }
            Event::Ended(end) => {
                self.call = None;
                self.window
                    .call_ended(end, |entry| accept(entry, O::Answer::default()));
                false
            }
        }
    }
}

//! The methods of the ledger as operations: one of each kind.

use agntcy_dir_stream::operation::{
    Acknowledged, Done, LostAnswer, NoQuestion, Operation, Place, Question,
};
use agntcy_dir_stream::{Error, ErrorKind};

use super::messages::{Account, Accounts, Booking, BookingId, Cancelled, Closed, Receipt};

fn must_have_id(id: &str) -> Result<(), Error> {
    match id.is_empty() {
        true => Err(Error::invalid("a booking has an id")),
        false => Ok(()),
    }
}

/// Books. A booking must not be made twice, so one whose answer was lost is looked for.
pub(crate) struct Book;

impl Operation for Book {
    const NAME: &'static str = "book";
    const METHOD: &'static str = "/example.ledger.v1.Ledger/Book";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::EachItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::LookUp;

    type Input = Booking;
    type Checked = ();
    type Request = Booking;
    type Answer = Receipt;
    /// Whether it was found to be booked, by an answer that was lost.
    type Output = bool;
    type Question = Find;
    type Success<T> = Done<bool, T>;

    fn check(&self, booking: &Booking) -> Result<(), Error> {
        must_have_id(&booking.id)
    }

    fn request(&self, booking: &Booking, (): &()) -> Booking {
        booking.clone()
    }

    fn accept(&self, booking: &Booking, (): &(), receipt: Receipt) -> Result<bool, Error> {
        match receipt.id == booking.id {
            true => Ok(false),
            false => Err(Error::new(
                ErrorKind::Mismatch,
                format!("the receipt is of {}", receipt.id),
            )),
        }
    }

    fn question(&self, booking: &Booking, (): &()) -> Option<BookingId> {
        let id = booking.id.clone();
        Some(BookingId { id })
    }

    fn found(&self, _: &Booking, (): &(), _: Receipt) -> Result<bool, Error> {
        Ok(true)
    }

    fn success<T>(place: Place<T>, (): (), was_found: bool) -> Done<bool, T> {
        Done::new(place, was_found)
    }
}

/// Asks whether a booking was made.
pub(crate) enum Find {}

impl Question for Find {
    const METHOD: &'static str = "/example.ledger.v1.Ledger/Find";
    type Request = BookingId;
    type Answer = Receipt;

    fn is_answered_by(asked: &BookingId, receipt: &Receipt) -> bool {
        receipt.id == asked.id
    }
}

/// Cancels bookings, by their ids. One answer is for all of a call.
pub(crate) struct Cancel;

impl Operation for Cancel {
    const NAME: &'static str = "cancel";
    const METHOD: &'static str = "/example.ledger.v1.Ledger/Cancel";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::WholeCall;
    const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;

    type Input = String;
    type Checked = ();
    type Request = BookingId;
    type Answer = Cancelled;
    type Output = ();
    type Question = NoQuestion;
    type Success<T> = Done<(), T>;

    fn check(&self, id: &String) -> Result<(), Error> {
        must_have_id(id)
    }

    fn request(&self, id: &String, (): &()) -> BookingId {
        BookingId { id: id.clone() }
    }

    fn accept(&self, _: &String, (): &(), _: Cancelled) -> Result<(), Error> {
        Ok(())
    }

    fn success<T>(place: Place<T>, (): (), (): ()) -> Done<(), T> {
        Done::new(place, ())
    }
}

/// Closes accounts. One message names several.
pub(crate) struct Close;

impl Operation for Close {
    const NAME: &'static str = "close";
    const METHOD: &'static str = "/example.ledger.v1.Ledger/Close";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::WholeBatch;
    const LOST_ANSWER: LostAnswer = LostAnswer::SendAgain;

    type Input = String;
    type Checked = ();
    type Request = Accounts;
    type Answer = Closed;
    type Output = ();
    type Question = NoQuestion;
    type Success<T> = Done<(), T>;

    fn check(&self, _: &String) -> Result<(), Error> {
        Ok(())
    }

    fn request(&self, name: &String, (): &()) -> Accounts {
        let names = vec![name.clone()];
        Accounts { names }
    }

    fn accept(&self, _: &String, (): &(), _: Closed) -> Result<(), Error> {
        Ok(())
    }

    fn success<T>(place: Place<T>, (): (), (): ()) -> Done<(), T> {
        Done::new(place, ())
    }
}

/// Reads what is booked to an account. Nothing in an answer shows which request it is for, so each item has a call.
pub(crate) struct History;

impl Operation for History {
    const NAME: &'static str = "history";
    const METHOD: &'static str = "/example.ledger.v1.Ledger/History";
    const ACKNOWLEDGED: Acknowledged = Acknowledged::OneItem;
    const LOST_ANSWER: LostAnswer = LostAnswer::AskAgain;

    type Input = String;
    type Checked = ();
    type Request = Account;
    type Answer = Booking;
    type Output = Vec<Booking>;
    type Question = NoQuestion;
    type Success<T> = Done<Vec<Booking>, T>;

    fn check(&self, _: &String) -> Result<(), Error> {
        Ok(())
    }

    fn request(&self, name: &String, (): &()) -> Account {
        Account { name: name.clone() }
    }

    fn accept(&self, name: &String, (): &(), booking: Booking) -> Result<Vec<Booking>, Error> {
        match booking.account == *name {
            true => Ok(vec![booking]),
            false => Err(Error::new(
                ErrorKind::Mismatch,
                format!("{} is booked to {}", booking.id, booking.account),
            )),
        }
    }

    fn join(&self, bookings: Vec<Vec<Booking>>) -> Result<Vec<Booking>, Error> {
        Ok(bookings.concat())
    }

    fn success<T>(place: Place<T>, (): (), bookings: Vec<Booking>) -> Done<Vec<Booking>, T> {
        Done::new(place, bookings)
    }
}

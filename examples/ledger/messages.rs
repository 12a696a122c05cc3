//! The messages of `ledger.proto`, as `prost-build` makes them. A project of your own generates them.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Booking {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) account: String,
    #[prost(int64, tag = "3")]
    pub(crate) amount: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BookingId {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Receipt {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Cancelled {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Accounts {
    #[prost(string, repeated, tag = "1")]
    pub(crate) names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Closed {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Account {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

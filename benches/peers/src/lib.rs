//! This crate beside its peers, and in the scenarios that it is made for.

#![allow(clippy::cast_precision_loss, clippy::missing_errors_doc)]

pub mod child;
pub mod input;
pub mod instructions;
pub mod line;
pub mod measure;
pub mod ours;
pub mod peers;
pub mod plot;
pub mod scenarios;
pub mod store;
pub mod table;
pub mod ways;

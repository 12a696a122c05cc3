//! Methods of a service that is not a directory, over streams: its operations are in `operations.rs`, and the server is
//! one with faults, in this process.
//!
//! ```text
//! cargo run --example ledger [SEED]
//! ```
//!
//! It books a thousand amounts while the line breaks at random, and shows that each was booked once: the bookings whose
//! answers were lost were looked for, and made again if they were not there. The clock is paused, so that no wait takes
//! time.

mod messages;
mod operations;
mod server;

use std::time::Duration;

use agntcy_dir_stream::prelude::*;
use futures::{StreamExt, stream};
use tonic::Code;

use crate::messages::Booking;
use crate::operations::{Book, Cancel, Close, History};
use crate::server::{Fault, Ledger};

const BOOKINGS: usize = 1000;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> anyhow::Result<()> {
    let seed = std::env::args().nth(1).map_or(Ok(0), |seed| seed.parse())?;
    fastrand::seed(seed);

    let ledger = Ledger::default();
    // What was there before.
    ledger.insert(Booking {
        id: "opening".to_owned(),
        account: "account 0".to_owned(),
        amount: 100,
    });
    let faults = [
        Fault::Cut,
        Fault::CutAfter,
        Fault::End,
        Fault::Stall,
        Fault::Late(Duration::from_millis(50)),
        Fault::Status(Code::Unavailable),
    ];
    for request in 0..4 * BOOKINGS as u64 {
        if fastrand::u8(..100) == 0 {
            ledger.inject(request, faults[fastrand::usize(..faults.len())]);
        }
    }
    let client = Client::from_service(ledger.clone());

    let booking = |number| Booking {
        id: format!("b{number}"),
        account: format!("account {}", number % 10),
        // Each hundredth is refused.
        amount: i64::from(number % 100 != 99),
    };
    let mut booked = stream::iter((0..BOOKINGS).map(booking)).through(Book, &client);
    let mut found = 0;
    while let Some(result) = booked.next().await {
        match result {
            Ok(done) => found += usize::from(done.output),
            Err(failed) if failed.index < 200 => println!("{failed}"),
            Err(_) => {}
        }
    }
    let stats = booked.stats();
    println!(
        "{} booked, {} refused; {} faults, {} calls; {found} were booked by calls that broke",
        stats.succeeded, stats.failed, stats.faults, stats.calls
    );
    anyhow::ensure!(
        ledger.bookings().len() as u64 == 1 + stats.succeeded,
        "not each was booked once"
    );

    let names = || stream::iter((0..11).map(|number| format!("account {number}")));
    let options = Options::new().calls(4);
    let histories = names().through_with(History, &client, &options);
    let lens: Vec<_> = histories
        .map(|result| result.map_or(0, |done| done.output.len()))
        .collect()
        .await;
    println!("bookings of each account: {lens:?}");

    let cancelled = stream::iter((0..500).map(|number| format!("b{number}")));
    let cancelled = cancelled.through(Cancel, &client).finish().await;
    println!("{} cancelled", cancelled.stats.succeeded);

    // There is no `account 10`, and the others are closed all the same.
    let closed = names().through(Close, &client).finish().await;
    println!(
        "{} closed, {} failed; {} calls in all",
        closed.stats.succeeded,
        closed.stats.failed,
        ledger.calls()
    );
    anyhow::ensure!(
        ledger.is_closed("account 9"),
        "a missing account takes no other along"
    );
    Ok(())
}

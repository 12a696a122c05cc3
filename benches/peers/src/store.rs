//! The store that all clients talk to, in a process of its own.

use std::time::Duration;

use agntcy_dir_stream::server::{AlreadyStored, Fault, Method, Store};

use crate::child::{self, Server};
use crate::input;

/// Starts a store that holds the records of [`input`], and takes so long for each push.
pub fn start(takes: Duration) -> anyhow::Result<Server> {
    Server::start(child::again(&["store", &takes.as_millis().to_string()])?)
}

/// What the child does: one thread, so that a core is left for the client.
pub fn serve(takes: Duration) -> anyhow::Result<()> {
    // The same records can be pushed again and again, and need no room.
    let store = Store::builder().already_stored(AlreadyStored::Ref).build();
    for record in input::records()? {
        store.insert(record)?;
    }
    if !takes.is_zero() {
        // It holds up only the call that it happens in, as a validator behind a network would.
        store.inject(Fault::delay(takes).on(Method::Push).times(u64::MAX));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let serving = store.listen("127.0.0.1:0").await?;
        println!("{}", serving.url());
        tokio::task::spawn_blocking(child::stdin_ended).await?;
        Ok(())
    })
}

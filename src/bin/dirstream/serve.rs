//! `dirstream serve`: the embedded store.

use crate::exit::Exit;

/// Serve a store that is in memory, to try things out.
///
/// It speaks as a DIR server does. What it holds is gone when it ends.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8888")]
    listen: String,
}

#[cfg(not(feature = "server"))]
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    anyhow::bail!(
        "cannot listen on {}: this program was built without the feature `server`",
        arguments.listen
    )
}

#[cfg(feature = "server")]
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    use std::io::Write as _;
    use std::time::Duration;

    use agntcy_dir_stream::server::Store;
    use anyhow::Context as _;

    use crate::signals::Signals;

    /// How long running calls have to end.
    const GRACE: Duration = Duration::from_secs(5);

    let print = |words: String| writeln!(std::io::stdout(), "{words}");
    let mut signals = Signals::new()?;
    let store = Store::new();
    let serving = store.listen(&arguments.listen).await;
    let serving = serving.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    print(format!("listening on {}; Ctrl-C ends it", serving.url()))?;
    signals.next().await;
    let _ = tokio::time::timeout(GRACE, serving.shutdown()).await;
    print(format!("{} records are gone", store.len()))?;
    Ok(Exit::Well)
}

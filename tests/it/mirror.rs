//! The mirror of the examples: whatever happens for a minute, the stores are equal at the end.

use std::time::Duration;

use proptest::prelude::*;

use self::trouble::Trouble;
use crate::support::clock::on_paused_clock;
use crate::support::properties::cases;

#[path = "../../examples/mirror/mirror.rs"]
#[expect(
    clippy::module_inception,
    reason = "the example has it in a file of that name"
)]
pub(crate) mod mirror;
#[path = "../../examples/mirror/trouble.rs"]
mod trouble;

proptest! {
    // A seed says nothing by its size.
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..cases(40) })]

    #[test]
    fn a_minute_of_trouble_ends_with_equal_stores(seed: u64) {
        fastrand::seed(seed);
        let took = on_paused_clock(async {
            let trouble = Trouble::new();
            trouble.happens(&mut fastrand::Rng::with_seed(seed), Duration::from_secs(60)).await;
            trouble.settles().await
        });
        // A list each 30 s, one that breaks, and waits of up to a minute before the next.
        let took = took.map(|took| took.as_secs());
        prop_assert!(took.is_some_and(|took| took < 600), "{took:?} s");
    }
}

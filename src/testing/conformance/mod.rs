//! What every store must do, as checks that anyone can run on his own.

mod claims;
mod driver;
mod logs;
mod rows;

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_util::FutureExt as _;

use crate::store::Store;

type Checking = Pin<Box<dyn Future<Output = ()>>>;
type Check = (&'static str, fn(Arc<dyn Store>) -> Checking);

/// Names a check after its function.
macro_rules! checks {
    ($($room:ident::$name:ident),* $(,)?) => {
        &[$((stringify!($name), |store| Box::pin($room::$name(store)))),*]
    };
}

const CHECKS: &[Check] = checks![
    claims::a_later_claim_ends_an_earlier_one,
    claims::a_claim_says_where_the_partition_ends,
    claims::a_strangers_batch_appends_and_puts_new_rows_alone,
    claims::batches_of_a_claim_are_applied_in_the_order_of_the_calls,
    claims::a_batch_lands_though_its_future_was_dropped,
    claims::a_partition_is_released_after_all_that_was_handed_over,
    claims::what_is_not_allowed_is_invalid,
    claims::a_batch_that_is_too_large_is_refused,
    claims::an_empty_batch_is_committed,
    logs::records_are_read_as_they_were_appended,
    logs::places_rise_over_all_classes_of_a_partition,
    logs::a_read_is_bounded_and_goes_on_where_it_stopped,
    logs::a_reader_sees_only_what_it_wants_and_all_of_it,
    logs::a_trim_keeps_what_it_should_and_says_what_is_gone,
    logs::places_are_not_used_again_after_a_trim,
    logs::what_is_sent_arrives_once_and_in_order,
    logs::whoever_waits_for_a_record_is_woken,
    logs::partitions_have_logs_of_their_own,
    logs::an_extent_says_where_logs_begin_and_end_and_what_they_take,
    rows::a_row_is_what_was_put_last,
    rows::steps_of_a_batch_see_those_before_them,
    rows::a_batch_is_applied_whole_or_not_at_all,
    rows::a_batch_that_is_refused_fails_alone,
    rows::a_conflict_names_the_row_that_is_there,
    rows::a_row_that_has_expired_keeps_nobody_out,
    rows::expired_rows_are_swept_away_and_others_are_not,
    rows::the_rows_of_a_record_hold_its_place_and_must_be_new,
    rows::a_scan_is_in_the_order_of_the_keys,
    rows::the_last_row_of_a_range_is_the_last,
    rows::tables_and_partitions_are_apart,
];

/// Runs every check of the contract of [`Store`], each on a store of its own that `make` makes, and says which it ran.
///
/// The checks are those of a client that takes every liberty of the contract into account: after an unknown commit it
/// claims the partition again and looks, it reads on until a page says that it is the last, and it waits for what was
/// sent. So a store that fails in these ways, a [`FaultyStore`](super::FaultyStore) for one, passes as well.
///
/// # Panics
/// Where a check fails, with its name.
///
/// ```
/// use millstream::{store::Memory, testing::store_conformance};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let checks = store_conformance(async || Memory::new()).await;
/// assert!(checks.contains(&"a_batch_is_applied_whole_or_not_at_all"));
/// # }
/// ```
pub async fn store_conformance<S: Store>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    let mut passed = Vec::with_capacity(CHECKS.len());
    for (name, check) in CHECKS {
        let store: Arc<dyn Store> = Arc::new(make().await);
        let result = AssertUnwindSafe(check(store)).catch_unwind().await;
        assert!(result.is_ok(), "the store does not keep its contract: `{name}`");
        passed.push(*name);
    }
    passed
}

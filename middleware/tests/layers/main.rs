//! The promises of every layer, through the public API, under tokio's paused time.
//!
//! Defects that such layers have had elsewhere, and the test that would catch each:
//!
//! | defect | test |
//! | --- | --- |
//! | a plain error was never retried | `retry::a_plain_error_is_retried_after_the_documented_delay` |
//! | the first delay was twice the documented one | the same, and `the_documented_first_delay_is_the_real_one` of the policy |
//! | documented options of retry were ignored | `retry::*`: one test an option |
//! | several retries multiplied | `faults::two_retries_in_one_stack_multiply_and_that_is_why_one_owns_it` |
//! | the work ran on after its timeout, timers leaked | `timeout::the_call_is_dropped_when_its_time_is_up` |
//! | a limit waited 0 ms, so most calls failed | `concurrency::by_default_everyone_waits_and_nobody_is_refused` |
//! | limits were shared by accident | `concurrency::each_layer_has_its_own_limit_and_its_services_share_it` |
//! | the parsed value was thrown away | `validate::the_parsed_value_reaches_the_handler` |
//! | an error of the handler was wrapped as invalid | `validate::every_violation_is_listed_with_its_path_and_…` |
//! | layers ran outermost first here and last there | `stack::the_order_is_the_order_written_outermost_first` |
//! | a breaker an instance, that never opened | `breaker::the_state_is_shared_by_all_services_of_the_layer` |
//! | a breaker that never half-opened, or let a burst in | `breaker::half_open_it_admits_three_and_closes_when_they_succeed` |
//! | a breaker that stuck half-open | `breaker::a_dropped_probe_gives_its_lease_back_and_a_hung_one_…` |
//! | a table of seen keys that grew for ever | `once::memory_is_bounded_by_time_and_by_size` |
//! | a gauge that nothing raised or lowered | `observe::every_call_is_counted_once_by_outcome_and_the_gauge_goes_down` |
//! | messages of the same key interleaved | `concurrency::a_key_runs_in_the_order_of_call_and_others_pass_it` |
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail")]

mod around;
mod breaker;
mod concurrency;
#[cfg(all(feature = "metrics", feature = "rate", feature = "schedule", feature = "trace"))]
mod conformance;
mod faults;
mod load;
#[cfg(all(feature = "metrics", feature = "trace"))]
mod observe;
mod once;
#[cfg(feature = "rate")]
mod rate;
mod retry;
#[cfg(feature = "schedule")]
mod schedule;
mod small;
mod stack;
mod support;
mod timeout;
mod validate;

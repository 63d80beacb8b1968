//! Each planted bug is caught within few images, flips or failures.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use millstream_sim::{
    bugs::Bug,
    engine::bugs::EngineBug,
    planted::{Planting, Settings, look_for},
};

fn assert_caught(bug: Bug) {
    let caught = look_for(Planting::Store(bug), Settings { tries: 300, seed: 1, threads: 1 }).unwrap();
    assert!(caught.what.is_some(), "{caught:?}");
}

fn assert_caught_in_engine(bug: EngineBug) {
    let caught = look_for(Planting::Engine(bug), Settings { tries: 2_000, seed: 1, threads: 1 }).unwrap();
    assert!(caught.what.is_some(), "{caught:?}");
}

#[test]
fn an_acknowledgement_before_the_commit_is_caught() {
    assert_caught(Bug::AckBeforeCommit);
}

#[test]
fn a_sync_that_lies_is_caught() {
    assert_caught(Bug::LyingSync);
}

#[test]
fn a_store_that_does_not_hear_of_failed_syncs_is_caught() {
    assert_caught(Bug::DeafToSync);
}

#[test]
fn a_cursor_in_a_second_transaction_is_caught() {
    assert_caught(Bug::CursorApart);
}

#[test]
fn an_output_before_the_commit_is_caught() {
    assert_caught(Bug::OutputsFirst);
}

#[test]
fn a_key_that_is_taken_before_what_it_is_for_is_caught() {
    assert_caught(Bug::KeysFirst);
}

#[test]
fn a_forgotten_timer_is_caught() {
    assert_caught(Bug::TimerForgotten);
}

#[test]
fn a_claim_that_keeps_nobody_out_is_caught() {
    assert_caught(Bug::NoFence);
}

#[test]
fn a_checksum_that_nobody_looks_at_is_caught() {
    assert_caught(Bug::SkippedCrc);
}

#[test]
fn an_emit_that_is_acknowledged_before_its_commit_is_caught() {
    assert_caught_in_engine(EngineBug::AckBeforeCommit);
}

#[test]
fn a_subscriptions_cursor_in_a_second_transaction_is_caught() {
    assert_caught_in_engine(EngineBug::CursorApart);
}

#[test]
fn a_stages_timer_that_is_forgotten_is_caught() {
    assert_caught_in_engine(EngineBug::TimerForgotten);
}

#[test]
fn a_delayed_event_that_is_forgotten_is_caught() {
    assert_caught_in_engine(EngineBug::DelayForgotten);
}

#[test]
fn outputs_in_the_log_before_their_commit_are_caught() {
    assert_caught_in_engine(EngineBug::OutputFirst);
}

#[test]
fn a_dead_letter_that_goes_before_its_replay_lands_is_caught() {
    assert_caught_in_engine(EngineBug::LetterGoneFirst);
}

#[test]
fn a_stages_state_without_its_cursor_is_caught() {
    assert_caught_in_engine(EngineBug::StateWithoutCursor);
}

#[test]
fn a_stages_state_that_is_kept_without_its_tenant_is_caught() {
    assert_caught_in_engine(EngineBug::TenantForgotten);
}

#[test]
fn a_stages_watermark_that_is_forgotten_is_caught() {
    assert_caught_in_engine(EngineBug::WatermarkForgotten);
}

#[test]
fn events_that_are_trimmed_before_they_are_handled_are_caught() {
    assert_caught_in_engine(EngineBug::TrimTooFar);
}

#[test]
fn a_handlers_rows_before_its_outcome_are_caught() {
    assert_caught_in_engine(EngineBug::StorageFirst);
}

//! Each planted bug is caught within few images, flips or failures.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use millstream_sim::{
    bugs::Bug,
    planted::{Settings, look_for},
};

fn assert_caught(bug: Bug) {
    let caught = look_for(bug, Settings { tries: 300, seed: 1, threads: 1 }).unwrap();
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

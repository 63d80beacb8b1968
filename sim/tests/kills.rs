//! A real process is killed at full load, and all that it acknowledged is handled.

use millstream_sim::kill::{Settings, run};

#[test]
fn what_a_killed_process_acknowledged_is_handled_once_and_in_order_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_millstream-sim").into();
    let file = folder.path().join("events.redb");
    let tally = run(&Settings { program, file, cycles: 3, seed: 1, emitters: 64 }, &|_| {}).unwrap();
    assert!(tally.violations.is_empty(), "{:?}", tally.violations);
    assert!(tally.acked > 0 && tally.found >= tally.acked, "{tally:?}");
}

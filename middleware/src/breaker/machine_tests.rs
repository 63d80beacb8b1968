use super::*;

const S: Duration = Duration::from_secs(1);

fn machine() -> Machine {
    Machine::new(Trip::default())
}

fn calls(machine: &mut Machine, n: u32, failed: bool, now: Duration) {
    for _ in 0..n {
        let ticket = machine.admit(now).unwrap();
        machine.record(ticket, failed, false, now);
    }
}

#[test]
fn it_opens_at_half_of_at_least_twenty_calls() {
    let mut m = machine();
    calls(&mut m, 10, false, S);
    calls(&mut m, 9, true, S);
    assert_eq!(m.state(S), State::Closed, "19 calls are too few");
    calls(&mut m, 1, true, S);
    assert_eq!(m.state(S), State::Open);
    assert_eq!(m.admit(S * 2), Err(Some(S * 4)));
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let mut m = machine();
    calls(&mut m, 19, true, S);
    calls(&mut m, 1, true, S * 31);
    assert_eq!(m.state(S * 31), State::Closed);
    assert_eq!(m.counts(S * 31).calls, 1);
}

#[test]
fn three_probes_go_out_and_close_it() {
    let mut m = machine();
    calls(&mut m, 20, true, S);
    let at = S * 6;
    let probes: Vec<_> = (0..3).map(|_| m.admit(at).unwrap()).collect();
    assert_eq!(m.admit(at), Err(None), "no burst");
    m.record(probes[0], false, false, at);
    assert_eq!(m.admit(at), Err(None), "a success does not free a lease");
    m.cancel(probes[1]);
    let again = m.admit(at).unwrap();
    m.record(again, false, false, at);
    m.record(probes[2], false, false, at);
    assert_eq!(m.state(at), State::Closed);
}

#[test]
fn each_failed_probing_doubles_the_time_up_to_the_longest() {
    let mut m = machine();
    calls(&mut m, 20, true, S);
    let mut now = S;
    for expected in [5, 10, 20, 40, 60, 60] {
        let Err(Some(wait)) = m.admit(now) else { panic!("open") };
        assert_eq!(wait.as_secs(), expected);
        now += wait;
        let probe = m.admit(now).unwrap();
        m.record(probe, true, false, now);
    }
    now += S * 60;
    for _ in 0..3 {
        let probe = m.admit(now).unwrap();
        m.record(probe, false, false, now);
    }
    calls(&mut m, 20, true, now);
    assert_eq!(m.admit(now), Err(Some(S * 5)), "closing begins anew");
}

#[test]
fn a_probe_that_hangs_opens_it_again() {
    let mut m = machine();
    calls(&mut m, 20, true, S);
    let hung = m.admit(S * 6).unwrap();
    assert_eq!(m.admit(S * 36), Err(Some(S * 10)));
    m.record(hung, false, false, S * 37);
    assert_eq!(m.state(S * 37), State::Open, "what it says later no longer counts");
}

#[test]
fn an_outcome_from_before_the_change_does_not_count() {
    let mut m = machine();
    let early = m.admit(S).unwrap();
    calls(&mut m, 20, true, S);
    let probe = m.admit(S * 6).unwrap();
    m.record(early, true, false, S * 6);
    assert_eq!(m.state(S * 6), State::HalfOpen);
    m.record(probe, false, false, S * 6);
}

#[test]
fn slow_calls_open_it_too() {
    let mut m = Machine::new(Trip::default().slow(S, 0.8));
    for i in 0..20 {
        let ticket = m.admit(S).unwrap();
        m.record(ticket, false, i >= 4, S);
    }
    assert_eq!(m.state(S), State::Open);
}

use super::*;

const S: Duration = Duration::from_secs(1);

fn delays(retry: &Retry) -> Vec<Duration> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut previous = Duration::ZERO;
    (1..)
        .map_while(|failed| {
            previous = retry.next_delay(failed, Duration::ZERO, previous, RetryHint::Default, &mut random)?;
            Some(previous)
        })
        .collect()
}

fn seconds(retry: &Retry) -> Vec<u64> {
    delays(retry).iter().map(Duration::as_secs).collect()
}

#[test]
fn the_documented_first_delay_is_the_real_one() {
    let three = Duration::from_secs(3);
    assert_eq!(delays(&Retry::fixed(three))[0], three);
    assert_eq!(delays(&Retry::linear(three))[0], three);
    assert_eq!(delays(&Retry::exponential().jitter(Jitter::None))[0], S);
    assert_eq!(delays(&Retry::exponential().jitter(Jitter::None).initial(three))[0], three);
    assert_eq!(delays(&Retry::custom(|failed| S * (failed + 6)))[0], S * 7);
}

#[test]
fn each_backoff_grows_as_it_says_and_stops_at_its_largest_delay() {
    let plain = Retry::exponential().jitter(Jitter::None).attempts(10);
    assert_eq!(seconds(&plain), [1, 2, 4, 8, 16, 32, 64, 100, 100]);
    assert_eq!(seconds(&plain.factor(3.0).attempts(5)), [1, 3, 9, 27]);
    assert_eq!(seconds(&Retry::fixed(S * 2).attempts(4)), [2, 2, 2]);
    assert_eq!(seconds(&Retry::linear(S * 2).attempts(5)), [2, 4, 6, 8]);
    assert_eq!(seconds(&Retry::linear(S * 2).attempts(5).max_delay(S * 5)), [2, 4, 5, 5]);
    assert_eq!(seconds(&Retry::custom(|failed| S * failed.pow(2)).attempts(4)), [1, 4, 9]);
}

#[test]
fn attempts_count_the_first_call() {
    assert_eq!(delays(&Retry::none()).len(), 0);
    assert_eq!(delays(&Retry::exponential()).len(), 2, "three attempts by default");
    assert_eq!(delays(&Retry::fixed(S)).len(), 2);
    assert_eq!(delays(&Retry::linear(S).attempts(7)).len(), 6);
}

#[test]
fn huge_counts_do_not_overflow() {
    let mut random = fastrand::Rng::with_seed(1);
    let uncapped = Retry { max_delay: None, ..Retry::exponential() }.jitter(Jitter::None).attempts(u32::MAX);
    let last = uncapped.next_delay(u32::MAX - 1, Duration::MAX, Duration::MAX, RetryHint::Default, &mut random);
    assert_eq!(last, Some(Duration::MAX));
    let linear = Retry::linear(Duration::MAX).attempts(u32::MAX);
    assert_eq!(linear.next_delay(9, S, S, RetryHint::Default, &mut random), Some(Duration::MAX));
}

#[test]
fn every_jitter_stays_within_its_bounds_and_reaches_across_them() {
    let spread = |jitter| {
        let retry = Retry::fixed(S * 9).max_delay(S * 20).jitter(jitter).attempts(10_000);
        let all = delays(&retry);
        (*all.iter().min().unwrap(), *all.iter().max().unwrap())
    };
    assert_eq!(spread(Jitter::None), (S * 9, S * 9));
    let (low, high) = spread(Jitter::Full);
    assert!(low < S / 10 && high > S * 89 / 10 && high <= S * 9, "{low:?} {high:?}");
    let (low, high) = spread(Jitter::Equal);
    assert!(low >= S * 45 / 10 && low < S * 46 / 10 && high > S * 89 / 10 && high <= S * 9, "{low:?} {high:?}");
    let (low, high) = spread(Jitter::Decorrelated);
    assert!(low >= S * 9 && low < S * 10 && high == S * 20, "{low:?} {high:?}");
}

#[test]
fn the_same_seed_gives_the_same_delays() {
    let retry = Retry::exponential().attempts(50);
    assert_eq!(delays(&retry), delays(&retry));
}

#[test]
fn a_hint_overrules_the_delay_but_not_the_count_or_the_total() {
    let mut random = fastrand::Rng::with_seed(1);
    let retry = Retry::exponential().total(S * 300);
    let mut after = |failed, elapsed, hint| retry.next_delay(failed, elapsed, Duration::ZERO, hint, &mut random);
    assert_eq!(after(1, S, RetryHint::After(S * 200)), Some(S * 200), "longer than max_delay");
    assert_eq!(after(1, S * 101, RetryHint::After(S * 200)), None, "past the total");
    assert_eq!(after(3, S, RetryHint::After(S)), None, "no attempt left");
    assert_eq!(after(1, S, RetryHint::Never), None);
}

#[test]
fn no_attempt_begins_after_the_total_time() {
    let mut random = fastrand::Rng::with_seed(1);
    let retry = Retry::fixed(S * 2).attempts(100).total(S * 10);
    let mut after = |elapsed| retry.next_delay(1, elapsed, Duration::ZERO, RetryHint::Default, &mut random);
    assert_eq!(after(S * 8), Some(S * 2));
    assert_eq!(after(S * 8 + Duration::from_nanos(1)), None);
    assert_eq!(after(Duration::MAX), None);
}

struct Failure(ErrorKind, Option<&'static str>, RetryHint);

impl Classify for Failure {
    fn kind(&self) -> ErrorKind {
        self.0
    }
    fn hint(&self) -> RetryHint {
        self.2
    }
    fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
        self.1.map(Into::into)
    }
}

#[test]
fn a_plain_error_is_retried_and_an_invalid_request_is_not() {
    let retry = Retry::exponential();
    assert_eq!(retry.hint("plain"), RetryHint::Default);
    for (kind, retried) in [
        (ErrorKind::Timeout, true),
        (ErrorKind::Overloaded, true),
        (ErrorKind::Unavailable, true),
        (ErrorKind::Panicked, true),
        (ErrorKind::Other, true),
        (ErrorKind::Invalid, false),
        (ErrorKind::Rejected, false),
    ] {
        assert_eq!(retry.admits(kind, None), retried, "{kind}");
    }
}

#[test]
fn kinds_codes_and_predicates_each_decide() {
    let retry = Retry::fixed(S).kinds([ErrorKind::Invalid]).codes(["40001", "40P01"]);
    let conditions: RetryIf<Failure> = retry.clone().into();
    let after = RetryHint::After(S);
    assert_eq!(conditions.hint(&Failure(ErrorKind::Invalid, Some("40001"), after)), after);
    assert_eq!(conditions.hint(&Failure(ErrorKind::Invalid, Some("23505"), after)), RetryHint::Never);
    assert_eq!(conditions.hint(&Failure(ErrorKind::Invalid, None, after)), RetryHint::Never);
    assert_eq!(conditions.hint(&Failure(ErrorKind::Timeout, Some("40001"), after)), RetryHint::Never);

    let odd = retry.when(|n: &u32| n % 2 == 1);
    assert_eq!((odd.hint(&1), odd.hint(&2)), (RetryHint::Default, RetryHint::Never));
}

#[test]
fn impossible_settings_are_refused_all_at_once() {
    let worst = Retry::exponential().attempts(0).initial(S * 200).factor(0.5).total(Duration::ZERO).kinds([]);
    let error = worst.codes([""; 0]).check().unwrap_err();
    let named: Vec<_> = error.refused().iter().map(crate::SettingError::setting).collect();
    assert_eq!(named, ["attempts", "factor", "max_delay", "total", "kinds", "codes"]);
    assert!(error.to_string().starts_with("impossible settings: attempts: counts the first call"));
}

#[test]
fn each_impossible_setting_is_refused_by_name() {
    let refused = |retry: Retry| retry.check().unwrap_err().refused()[0].setting();
    assert_eq!(refused(Retry::exponential().factor(f64::NAN)), "factor");
    assert_eq!(refused(Retry::fixed(S).factor(2.0)), "factor");
    assert_eq!(refused(Retry::exponential().initial(Duration::ZERO)), "initial");
    assert_eq!(refused(Retry::custom(|_| S).initial(S)), "initial");
    assert_eq!(refused(Retry::fixed(S).jitter(Jitter::Decorrelated)), "max_delay");
    for sound in [Retry::none(), Retry::fixed(S), Retry::linear(S), Retry::exponential(), Retry::custom(|_| S)] {
        assert!(sound.check().is_ok(), "{sound:?}");
    }
}

#[test]
fn a_policy_survives_serde_and_names_a_wrong_field() {
    let retry = Retry::linear(S).attempts(9).codes(["a"]).kinds([ErrorKind::Timeout]).jitter(Jitter::Equal);
    let json = serde_json::to_string(&retry).unwrap();
    let back: Retry = serde_json::from_str(&json).unwrap();
    assert_eq!(format!("{retry:?}"), format!("{back:?}"));
    let partial: Retry = serde_json::from_str(r#"{"attempts": 5}"#).unwrap();
    assert_eq!(format!("{partial:?}"), format!("{:?}", Retry::exponential().attempts(5)));
    assert!(serde_json::from_str::<Retry>(r#"{"atempts": 5}"#).is_err());
    assert!(serde_json::to_string(&Retry::custom(|_| S)).is_err(), "a function is not data");
}

#[test]
fn policies_cross_threads() {
    fn crosses<T: Clone + fmt::Debug + Send + Sync + 'static>() {}
    crosses::<Retry>();
    crosses::<RetryIf<Failure>>();
}

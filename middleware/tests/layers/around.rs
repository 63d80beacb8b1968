//! The layers around a call that ask, look, replace or bury: authorize, tap, fallback, skip, dead letter.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use millstream_middleware::authorize::{AuthorizeLayer, Denied};
use millstream_middleware::dead_letter::{DeadLetterLayer, Letter};
use millstream_middleware::fallback::{FallbackLayer, FallbackServiceLayer, SkipLayer};
use millstream_middleware::retry::{Retry, RetryLayer};
use millstream_middleware::tap::TapLayer;
use millstream_middleware::{Classify, ErrorKind, Failure, RetryHint};
use tower::{ServiceBuilder, ServiceExt};

use crate::support::*;

fn deny_odd() -> AuthorizeLayer<impl Fn(&Req) -> Result<(), Denied> + Clone> {
    AuthorizeLayer::new(|request: &Req| if request.id.is_multiple_of(2) { Ok(()) } else { Err(Denied::new("odd")) })
}

#[tokio::test]
async fn what_is_denied_is_not_called_and_not_retried() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let retry = RetryLayer::<Error>::new(Retry::fixed(S)).unwrap();
    let service = ServiceBuilder::new().layer(retry).layer(deny_odd()).service(probe);
    assert!(service.clone().oneshot(req(2, Act::Answer)).await.is_ok());
    let error = service.oneshot(req(1, Act::Answer)).await.unwrap_err();
    assert_eq!(error.layer::<Denied>().unwrap().reason(), "odd");
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Rejected, RetryHint::Never));
    assert_eq!(seen.calls(), 1);
}

#[tokio::test]
async fn a_tap_sees_requests_and_results_and_changes_nothing() {
    let (requests, failures) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (r, f) = (requests.clone(), failures.clone());
    let tap = TapLayer::new(
        move |_: &Req| {
            r.fetch_add(1, SeqCst);
        },
        move |result: &Result<u32, Error>| {
            f.fetch_add(usize::from(result.is_err()), SeqCst);
        },
    );
    let service = ServiceBuilder::new().layer(tap).service(Probe::new());
    assert_eq!(service.clone().oneshot(req(7, Act::Answer)).await.unwrap(), 7);
    assert_eq!(service.oneshot(req(8, Act::Fail(BROKEN))).await.unwrap_err().inner(), Some(&BROKEN));
    assert_eq!((requests.load(SeqCst), failures.load(SeqCst)), (2, 1));
}

#[tokio::test]
async fn a_function_or_another_service_answers_in_place_of_an_error() {
    let answer = FallbackLayer::new(|error: Error| if error.kind() == ErrorKind::Other { Ok(99) } else { Err(error) });
    let service = ServiceBuilder::new().layer(answer).service(Probe::new());
    assert_eq!(service.clone().oneshot(req(1, Act::Fail(BROKEN))).await.unwrap(), 99);
    let invalid = Broken(ErrorKind::Invalid, RetryHint::Default);
    assert!(service.oneshot(req(1, Act::Fail(invalid))).await.is_err());

    let (first, second) = (Probe::new(), Probe::scripted([Act::Answer]));
    let seen = (first.seen.clone(), second.seen.clone());
    let other = FallbackServiceLayer::new(second).kinds([ErrorKind::Other]);
    let service = ServiceBuilder::new().layer(other).service(first);
    assert_eq!(service.clone().oneshot(req(5, Act::Fail(BROKEN))).await.unwrap(), 5);
    assert!(service.clone().oneshot(req(6, Act::Fail(invalid))).await.is_err());
    assert!(service.oneshot(req(7, Act::Answer)).await.is_ok());
    assert_eq!((seen.0.calls(), seen.1.calls()), (3, 1));
}

#[tokio::test]
async fn skip_turns_one_error_of_one_layer_into_an_empty_answer_and_counts_it() {
    let skip = SkipLayer::<Denied>::new();
    let service = ServiceBuilder::new().layer(skip.clone()).layer(deny_odd()).service(Probe::new());
    assert_eq!(service.clone().oneshot(req(1, Act::Answer)).await.unwrap(), 0);
    assert_eq!(service.clone().oneshot(req(2, Act::Answer)).await.unwrap(), 2);
    assert!(service.oneshot(req(2, Act::Fail(BROKEN))).await.is_err());
    assert_eq!(skip.skipped(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_the_last_failure_is_buried_with_its_request_and_the_caller_still_hears() {
    let (sink, mut letters) = tokio::sync::mpsc::channel::<Letter<Req>>(1);
    let bury = DeadLetterLayer::new(sink);
    let retry = RetryLayer::<Error>::new(Retry::fixed(S)).unwrap();
    let service = ServiceBuilder::new().layer(bury.clone()).layer(retry).service(Probe::new());
    assert!(service.clone().oneshot(req(1, Act::Answer)).await.is_ok());
    for id in 2..5 {
        assert!(service.clone().oneshot(req(id, Act::Fail(BROKEN))).await.is_err());
    }
    let letter = letters.recv().await.unwrap();
    assert_eq!((letter.request.id, letter.kind), (2, ErrorKind::Other));
    assert_eq!(letter.errors, ["broken: other"]);
    assert_eq!((bury.buried(), bury.lost()), (1, 2), "a full sink is counted");
}

#[tokio::test]
async fn any_function_is_a_sink_and_kinds_choose_what_is_buried() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let sink = kept.clone();
    let bury = DeadLetterLayer::new(move |request: Req, _: &Error| {
        sink.lock().unwrap().push(request.id);
        Ok(())
    });
    let service = ServiceBuilder::new().layer(bury.kinds([ErrorKind::Invalid])).service(Probe::new());
    let invalid = Broken(ErrorKind::Invalid, RetryHint::Default);
    assert!(service.clone().oneshot(req(1, Act::Fail(BROKEN))).await.is_err());
    assert!(matches!(service.oneshot(req(2, Act::Fail(invalid))).await, Err(Failure::Inner(_))));
    assert_eq!(*kept.lock().unwrap(), [2]);
}

//! The layers that are small: a panic caught, a load shed, a bulkhead.

use millstream_middleware::bulkhead::bulkhead;
use millstream_middleware::catch_panic::{CatchPanicLayer, Panicked};
use millstream_middleware::concurrency::{ConcurrencyLayer, Limit, QueueError};
use millstream_middleware::load_shed::{LoadShedLayer, Shed};
use millstream_middleware::retry::{Retry, RetryLayer};
use millstream_middleware::{BoxError, Classify, ErrorKind};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_error_of_one_call_and_can_be_retried() {
    let probe = Probe::scripted([Act::Panic]);
    let service = ServiceBuilder::new().layer(CatchPanicLayer).service(probe);
    let error = service.clone().oneshot(req(1, Act::Answer)).await.unwrap_err();
    assert_eq!(error.layer::<Panicked>().unwrap().message(), "told to panic");
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(service.oneshot(req(1, Act::Answer)).await.is_ok());

    let retry = RetryLayer::<Error>::new(Retry::fixed(S)).unwrap();
    let service = ServiceBuilder::new().layer(retry).layer(CatchPanicLayer).service(Probe::scripted([Act::Panic]));
    assert!(service.oneshot(req(1, Act::Answer)).await.is_ok());
}

#[tokio::test]
async fn a_panic_in_call_or_with_a_formatted_message_is_caught_too() {
    let in_call = service_fn(|n: u32| {
        assert!(n > 1, "{n} is not more than one");
        std::future::ready(Ok::<_, BoxError>(n))
    });
    let error = ServiceBuilder::new().layer(CatchPanicLayer).service(in_call).oneshot(1).await.unwrap_err();
    assert_eq!(error.to_string(), "panicked: 1 is not more than one");
}

#[tokio::test]
async fn a_call_is_shed_while_the_service_is_not_ready() {
    let limit = ConcurrencyLayer::new(Limit::new(1)).unwrap();
    let mut service = ServiceBuilder::new().layer(LoadShedLayer).layer(limit.clone()).service(Probe::new());
    let held = service.ready().await.unwrap().call(req(1, Act::Hang));
    let error = service.clone().oneshot(req(2, Act::Answer)).await.unwrap_err();
    assert_eq!(error.layer(), Some(&Shed));
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    let shed = service.ready().await.unwrap().call(req(3, Act::Answer)).await;
    assert!(shed.is_err());
    assert_eq!(limit.waiting(), 0, "it does not stay in a queue that it does not wait for");
    drop(held);
    assert_eq!(limit.available(), 1);
    assert!(service.oneshot(req(4, Act::Answer)).await.is_ok());
}

#[tokio::test]
async fn a_clone_of_a_ready_service_sheds_until_it_is_ready_itself() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let mut service = ServiceBuilder::new().layer(LoadShedLayer).service(probe);
    service.ready().await.unwrap();
    let error = service.clone().call(req(1, Act::Answer)).await.unwrap_err();
    assert_eq!((error.layer(), seen.calls()), (Some(&Shed), 0), "the clone's inner service was never polled");
    assert!(service.call(req(2, Act::Answer)).await.is_ok());
    let error = service.call(req(3, Act::Answer)).await.unwrap_err();
    assert_eq!((error.layer(), seen.calls()), (Some(&Shed), 1), "readiness is for one call");
}

#[tokio::test]
async fn a_bulkhead_refuses_in_place_of_waiting() {
    let mut service = ServiceBuilder::new().layer(bulkhead(2).unwrap()).service(Probe::new());
    let one = service.ready().await.unwrap().call(req(1, Act::Hang));
    let _two = service.ready().await.unwrap().call(req(2, Act::Hang));
    let error = service.clone().oneshot(req(3, Act::Answer)).await.unwrap_err();
    assert_eq!(error.layer(), Some(&QueueError::Full { queue: 0 }));
    drop(one);
    assert!(service.oneshot(req(4, Act::Answer)).await.is_ok());
    assert!(bulkhead(0).is_err());
}

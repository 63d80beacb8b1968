use millstream_middleware::fallback::SkipLayer;
use millstream_middleware::validate::{Invalid, ValidateLayer, Violation, check, parse};
use millstream_middleware::{BoxError, Classify, ErrorKind};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

#[tokio::test]
async fn the_parsed_value_reaches_the_handler() {
    let rule = parse(|text: &&str| text.parse::<u32>().map_err(|error| Invalid::at("/", error)));
    let service = ValidateLayer::new(rule).layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n * 2) }));
    assert_eq!(service.oneshot("21").await.unwrap(), 42);
    assert_eq!(service.oneshot("many").await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn every_violation_is_listed_with_its_path_and_the_service_is_not_called() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let rule = check(|request: &Req| {
        let id = (request.id == 0).then(|| Violation::new("id", "is zero"));
        let key = (request.key == 0).then(|| Violation::new("key", "is zero"));
        Invalid::collect(id.into_iter().chain(key))
    });
    let service = ValidateLayer::new(rule).layer(probe);
    let error = service.clone().oneshot(req(0, Act::Answer)).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid: id: is zero; key: is zero");
    assert_eq!(error.layer::<Invalid>().unwrap().violations()[1].path(), "key");
    assert_eq!(seen.calls(), 0);
    let error = service.oneshot(keyed(1, 1, Act::Fail(BROKEN))).await.unwrap_err();
    assert_eq!(error.inner(), Some(&BROKEN), "an error of the handler is not a validation error");
}

#[tokio::test]
async fn invalid_requests_can_be_skipped() {
    let skip = SkipLayer::<Invalid>::new();
    let rule = check(|_: &Req| Err(Invalid::at("", "never")));
    let service = ServiceBuilder::new().layer(skip.clone()).layer(ValidateLayer::new(rule)).service(Probe::new());
    assert_eq!(service.oneshot(req(1, Act::Answer)).await.unwrap(), 0);
    assert_eq!(skip.skipped(), 1);
}

#[cfg(feature = "garde")]
#[tokio::test]
async fn a_type_says_itself_what_is_valid() {
    use garde::Validate;
    use millstream_middleware::validate::typed;

    #[derive(Validate)]
    struct Order {
        #[garde(length(min = 1))]
        sku: String,
        #[garde(range(min = 1, max = 99))]
        count: u32,
    }

    let handler = service_fn(|order: Order| async move { Ok::<_, BoxError>(format!("{} {}", order.count, order.sku)) });
    let service = ValidateLayer::new(typed()).layer(handler);
    let order = |sku: &str, count| Order { sku: sku.into(), count };
    assert_eq!(service.oneshot(order("cup", 3)).await.unwrap(), "3 cup");
    let error = service.oneshot(order("", 100)).await.unwrap_err();
    let mut paths: Vec<_> = error.downcast_ref::<Invalid>().unwrap().violations().iter().map(Violation::path).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["count", "sku"]);
}

#[cfg(feature = "jsonschema")]
#[tokio::test]
async fn json_is_checked_by_its_schema_and_then_parsed() {
    use millstream_middleware::validate::Schema;
    use serde_json::json;

    #[derive(serde::Deserialize)]
    struct Order {
        sku: String,
        at: String,
    }

    let schema = Schema::new(&json!({
        "type": "object",
        "required": ["sku", "at"],
        "properties": { "sku": { "type": "string", "minLength": 2 }, "at": { "type": "string", "format": "date-time" } }
    }))
    .unwrap();
    let handler = service_fn(|order: Order| async move { Ok::<_, BoxError>(format!("{} {}", order.sku, order.at)) });
    let service = ValidateLayer::new(schema.into::<Order>()).layer(handler);
    let good = json!({ "sku": "cup", "at": "2026-11-20T00:00:00Z" });
    assert_eq!(service.clone().oneshot(good).await.unwrap(), "cup 2026-11-20T00:00:00Z");
    let error = service.clone().oneshot(json!({ "sku": "x", "at": "noon" })).await.unwrap_err();
    let mut paths: Vec<_> = error.downcast_ref::<Invalid>().unwrap().violations().iter().map(Violation::path).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/at", "/sku"]);
    assert!(Schema::new(&json!({ "type": "no such type" })).is_err());
    assert!(Schema::new(&json!({ "$ref": "https://example.com/other.json" })).is_err(), "the network is not asked");
}

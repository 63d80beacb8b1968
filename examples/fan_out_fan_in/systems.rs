//! Events of several systems: merged, filtered, and back into the runtime in batches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use futures::stream::iter;
use millstream::{Event, Runtime, State, flow, operators::combine::merge};
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "shop.order")]
struct Order {
    number: u64,
    is_paid: bool,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "billing.charge")]
struct Charge {
    number: u64,
    is_declined: bool,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "access.login")]
struct Login {
    number: u64,
    is_granted: bool,
}

/// What is sent to whoever is on duty.
#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "duty.digest")]
struct Digest {
    incidents: Vec<String>,
}

const ORDERS: u64 = 400;
const CHARGES: u64 = 250;
const LOGINS: u64 = 150;
/// The most incidents in a digest, and how long the first of them waits at most.
const DIGEST: (usize, Duration) = (20, Duration::from_millis(100));

/// What was sent.
#[derive(Clone, Default)]
struct Sent {
    digests: Arc<AtomicUsize>,
    incidents: Arc<AtomicUsize>,
}

async fn send(State(sent): State<Sent>, digest: Digest) {
    assert!((1..=DIGEST.0).contains(&digest.incidents.len()));
    sent.digests.fetch_add(1, Ordering::Relaxed);
    sent.incidents.fetch_add(digest.incidents.len(), Ordering::Relaxed);
}

/// A system: its events at its own pace, and which of them are trouble is in the number.
async fn work<E: Event>(runtime: &Runtime, events: u64, pace: Duration, event: impl Fn(u64) -> E) -> Result<u64> {
    Ok(runtime.forward(flow(iter(0..events)).rate_limit(pace).map(event)).await?.emitted)
}

pub(crate) async fn run() -> Result<String> {
    let sent = Sent::default();
    let runtime = Runtime::builder().state(sent.clone()).build()?;
    runtime.on("duty.digest", send)?;

    let orders = runtime.stream::<Order>("shop.*");
    let charges = runtime.stream::<Charge>("billing.*");
    let logins = runtime.stream::<Login>("access.*");
    let ids = [orders.head().id(), charges.head().id(), logins.head().id()];
    // What is said of each system is said at its stream; what is said of all, once they are merged.
    let incidents = merge((
        orders.filter(|order| !order.is_paid).map(|order| format!("order {} is not paid", order.number)),
        charges.filter(|charge| charge.is_declined).map(|charge| format!("charge {} was declined", charge.number)),
        logins.filter(|login| !login.is_granted).map(|login| format!("login {} was refused", login.number)),
    ));
    let digests = incidents.batch(DIGEST.0, DIGEST.1).map(|incidents| Digest { incidents });

    let systems = async {
        let millis = Duration::from_millis;
        let shop = work(&runtime, ORDERS, millis(1), |number| Order { number, is_paid: number % 10 != 0 });
        let billing = work(&runtime, CHARGES, millis(2), |number| Charge { number, is_declined: number % 10 == 0 });
        let access = work(&runtime, LOGINS, millis(3), |number| Login { number, is_granted: number % 10 != 0 });
        let emitted = tokio::try_join!(shop, billing, access)?;
        runtime.process().await?;
        // The streams take no more, give what waits, and end; the last digest is what is left.
        for id in ids {
            runtime.off(id);
        }
        anyhow::Ok(emitted.0 + emitted.1 + emitted.2)
    };
    // The first that fails ends all: what it would have stopped must not go on for ever.
    let all = async {
        let forwarded = async { Ok(runtime.forward(digests).await?.emitted) };
        let done = tokio::try_join!(systems, forwarded)?;
        runtime.shutdown(Duration::from_secs(1)).await?;
        anyhow::Ok(done)
    };
    let drive = async { Ok(runtime.run().await?) };
    let (_, (emitted, digests)) = tokio::try_join!(drive, all)?;
    let (sent, incidents) = (sent.digests.load(Ordering::Relaxed), sent.incidents.load(Ordering::Relaxed));
    assert_eq!((emitted, sent as u64), (ORDERS + CHARGES + LOGINS, digests));
    // Each tenth of each system.
    assert_eq!(incidents as u64, ORDERS / 10 + CHARGES / 10 + LOGINS / 10);
    Ok(format!("{emitted} events of 3 systems, {incidents} incidents in {digests} digests of at most {}", DIGEST.0))
}

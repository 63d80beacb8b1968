//! A service that does as it is told, and tells on those who call it wrongly.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]
#![expect(unreachable_pub, reason = "shared by the test modules beside it")]
#![allow(dead_code, reason = "not every act is used under every set of features")]

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use millstream_middleware::{Classify, ErrorKind, Failure, RetryHint};
use tokio::time::Instant;
use tower::Service;

/// One second.
pub const S: Duration = Duration::from_secs(1);
/// One millisecond.
pub const MS: Duration = Duration::from_millis(1);

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    Answer,
    Fail(Broken),
    Panic,
    Hang,
    /// Answers after this long.
    Take(Duration),
    /// Answers after having been polled this often without.
    Yield(u32),
    /// Fails after this long.
    FailAfter(Duration),
}

/// What the probe fails with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Broken(pub ErrorKind, pub RetryHint);

/// A plain failure.
pub const BROKEN: Broken = Broken(ErrorKind::Other, RetryHint::Default);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}", self.0)
    }
}

impl std::error::Error for Broken {}

impl Classify for Broken {
    fn kind(&self) -> ErrorKind {
        self.0
    }

    fn hint(&self) -> RetryHint {
        self.1
    }
}

/// A request that says what is to become of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Req {
    pub id: u32,
    pub key: u32,
    pub act: Act,
}

/// A request of key 0.
pub fn req(id: u32, act: Act) -> Req {
    Req { id, key: 0, act }
}

/// A request of a key.
pub fn keyed(id: u32, key: u32, act: Act) -> Req {
    Req { id, key, act }
}

pub type Error = Failure<Broken>;

/// The service. Its clones share their counts, never their readiness.
pub struct Probe {
    pub seen: Arc<Seen>,
    ready: bool,
}

/// What the probe has seen.
#[derive(Default)]
pub struct Seen {
    calls: AtomicUsize,
    running: AtomicUsize,
    peak: AtomicUsize,
    started: Mutex<Vec<(u32, Instant)>>,
    script: Mutex<VecDeque<Act>>,
}

impl Probe {
    pub fn new() -> Self {
        Self { seen: Arc::default(), ready: false }
    }

    /// Counts into `seen`.
    pub fn sharing(seen: &Arc<Seen>) -> Self {
        Self { seen: Arc::clone(seen), ready: false }
    }

    /// Does `acts` first, whatever the requests say.
    pub fn scripted(acts: impl IntoIterator<Item = Act>) -> Self {
        let probe = Self::new();
        probe.seen.script.lock().unwrap().extend(acts);
        probe
    }
}

impl Seen {
    pub fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    pub fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    pub fn peak(&self) -> usize {
        self.peak.load(SeqCst)
    }

    /// The ids of the calls, in the order in which they began.
    pub fn order(&self) -> Vec<u32> {
        self.started.lock().unwrap().iter().map(|(id, _)| *id).collect()
    }

    /// When each call began, in seconds after `origin`.
    pub fn times(&self, origin: Instant) -> Vec<f64> {
        self.started.lock().unwrap().iter().map(|(_, at)| (*at - origin).as_secs_f64()).collect()
    }
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        Self { seen: Arc::clone(&self.seen), ready: false }
    }
}

/// Counts a running call until it is dropped.
struct Running(Arc<Seen>);

impl Running {
    fn new(seen: &Arc<Seen>) -> Self {
        let running = seen.running.fetch_add(1, SeqCst) + 1;
        seen.peak.fetch_max(running, SeqCst);
        Self(Arc::clone(seen))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

pub type Answer = Pin<Box<dyn Future<Output = Result<u32, Error>> + Send>>;

impl Service<Req> for Probe {
    type Response = u32;
    type Error = Error;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Answer {
        assert!(std::mem::take(&mut self.ready), "request {} came to a service that was not polled ready", request.id);
        self.seen.calls.fetch_add(1, SeqCst);
        #[expect(clippy::disallowed_methods, reason = "the tests' own clock is tokio's, paused")]
        self.seen.started.lock().unwrap().push((request.id, Instant::now()));
        let act = self.seen.script.lock().unwrap().pop_front().unwrap_or(request.act);
        let running = Running::new(&self.seen);
        Box::pin(async move {
            let _running = running;
            perform(act).await.map(|()| request.id).map_err(Failure::Inner)
        })
    }
}

async fn perform(act: Act) -> Result<(), Broken> {
    match act {
        Act::Answer => ready(Ok(())).await,
        Act::Fail(broken) => Err(broken),
        Act::Panic => panic!("told to panic"),
        Act::Hang => pending().await,
        Act::Take(time) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
        Act::Yield(times) => {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
            Ok(())
        }
        Act::FailAfter(time) => {
            tokio::time::sleep(time).await;
            Err(BROKEN)
        }
    }
}

/// Now, on the paused clock.
#[expect(clippy::disallowed_methods, reason = "the tests' own clock is tokio's, paused")]
pub fn now() -> Instant {
    Instant::now()
}

/// One poll, without waiting.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(std::task::Waker::noop()))
}

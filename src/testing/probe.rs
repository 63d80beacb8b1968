//! A handler that behaves as told and remembers what it got.

use std::{
    future::{Future, pending},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    event::Draft,
    stage::{Extract, Handler, HandlerError, Outputs},
};

/// A handler that behaves as told and remembers what it got. Clones are the same probe.
///
/// ```
/// use millstream::{Draft, Json, Runtime, testing::{self, Probe}};
///
/// testing::run(Runtime::builder(), async |kit| {
///     let probe = Probe::<Json>::new();
///     kit.on("*", probe.handler())?;
///     kit.emit(Draft::json("greeted", "hello".into()))?;
///     kit.settle().await;
///     assert_eq!(probe.received(), [Json("hello".into())]);
///     Ok(())
/// });
/// ```
#[derive(Debug)]
pub struct Probe<T>(Arc<Mutex<Memory<T>>>);

#[derive(Debug)]
struct Memory<T> {
    received: Vec<T>,
    attempts: u32,
    to_fail: u32,
    behaviour: Behaviour,
    takes: Duration,
    returns: Vec<Draft>,
    running: usize,
    most_running: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Succeeds,
    Panics,
    Hangs,
}

/// Counts an attempt as running until it ends, even where it is dropped.
struct Running<T>(Probe<T>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.memory().running -= 1;
    }
}

impl<T> Clone for Probe<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Probe<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Memory {
            received: Vec::new(),
            attempts: 0,
            to_fail: 0,
            behaviour: Behaviour::Succeeds,
            takes: Duration::ZERO,
            returns: Vec::new(),
            running: 0,
            most_running: 0,
        })))
    }
}

impl<T> Probe<T> {
    /// A probe that succeeds at once and returns nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn memory(&self) -> MutexGuard<'_, Memory<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(self, set: impl FnOnce(&mut Memory<T>)) -> Self {
        set(&mut self.memory());
        self
    }

    /// The next so many attempts fail, as if something were unavailable.
    #[must_use]
    pub fn fails(self, attempts: u32) -> Self {
        self.with(|memory| memory.to_fail = attempts)
    }

    /// Every attempt fails.
    #[must_use]
    pub fn always_fails(self) -> Self {
        self.fails(u32::MAX)
    }

    /// Every attempt that does not fail panics.
    #[must_use]
    pub fn panics(self) -> Self {
        self.with(|memory| memory.behaviour = Behaviour::Panics)
    }

    /// Attempts never end.
    #[must_use]
    pub fn hangs(self) -> Self {
        self.with(|memory| memory.behaviour = Behaviour::Hangs)
    }

    /// Attempts take so long.
    #[must_use]
    pub fn takes(self, time: Duration) -> Self {
        self.with(|memory| memory.takes = time)
    }

    /// Attempts that succeed return this as well.
    #[must_use]
    pub fn returns(self, draft: Draft) -> Self {
        self.with(|memory| memory.returns.push(draft))
    }

    /// From now on attempts succeed at once.
    pub fn mend(&self) {
        let mut memory = self.memory();
        (memory.to_fail, memory.behaviour, memory.takes) = (0, Behaviour::Succeeds, Duration::ZERO);
    }

    /// How many attempts were begun.
    pub fn attempts(&self) -> u32 {
        self.memory().attempts
    }

    /// The most attempts that ran at a time.
    pub fn most_running(&self) -> usize {
        self.memory().most_running
    }
}

impl<T: Clone> Probe<T> {
    /// What it got, each attempt once, in the order in which attempts began.
    pub fn received(&self) -> Vec<T> {
        self.memory().received.clone()
    }
}

impl<T: Extract + Clone + 'static> Probe<T> {
    /// The handler.
    pub fn handler(&self) -> impl Handler<(T,)> + use<T> {
        let probe = self.clone();
        move |item: T| probe.clone().attempt(item)
    }

    fn attempt(self, item: T) -> impl Future<Output = Result<Outputs, HandlerError>> + Send + use<T> {
        let (takes, fails, behaviour, returns) = {
            let mut memory = self.memory();
            memory.received.push(item);
            memory.attempts += 1;
            memory.running += 1;
            memory.most_running = memory.most_running.max(memory.running);
            let fails = memory.to_fail > 0;
            if memory.to_fail < u32::MAX {
                memory.to_fail = memory.to_fail.saturating_sub(1);
            }
            (memory.takes, fails, memory.behaviour, memory.returns.clone())
        };
        let running = Running(self);
        async move {
            let _running = running;
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            if fails {
                return Err(HandlerError::transient("the probe fails as told"));
            }
            match behaviour {
                Behaviour::Succeeds => Ok(Outputs { drafts: returns, ..Outputs::none() }),
                Behaviour::Hangs => pending().await,
                #[expect(clippy::panic, reason = "as told")]
                Behaviour::Panics => panic!("the probe panics as told"),
            }
        }
    }
}

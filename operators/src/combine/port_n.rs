//! Any number of inputs of one type.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::{
    port::{BURST, IntoPorts, Plan, Turn},
    ready::ReadySet,
};

/// An item of one of many inputs; `None` where that input has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortN<T> {
    /// The input's number, from 0.
    pub port: usize,
    /// The item.
    pub item: Option<T>,
}

/// Many streams as one. Each is polled only when it was woken, so an idle one costs nothing.
pub struct PortsN<S> {
    streams: Vec<Option<Pin<Box<S>>>>,
    live: usize,
    plan: Plan,
    ready: ReadySet,
    /// The one that spoke last, and how many items in a row it has given.
    current: Option<usize>,
    burst: u32,
    taken: Vec<u64>,
    /// Ports that were ready but too far ahead.
    held: Vec<usize>,
}

// The streams are in boxes of their own.
impl<S> Unpin for PortsN<S> {}

impl<S: Stream> PortsN<S> {
    fn new(streams: Vec<S>, plan: Plan) -> Self {
        let mut ready = ReadySet::default();
        (0..streams.len()).for_each(|port| ready.insert(port));
        Self {
            live: streams.len(),
            taken: vec![0; streams.len()],
            streams: streams.into_iter().map(|stream| Some(Box::pin(stream))).collect(),
            plan,
            ready,
            current: None,
            burst: 0,
            held: Vec::new(),
        }
    }

    fn is_held(&self, port: usize) -> bool {
        self.plan.lead != u64::MAX && {
            let least = self.taken.iter().min().copied().unwrap_or(0);
            self.taken[port] - least >= self.plan.lead
        }
    }

    #[inline]
    fn took(&mut self, port: usize) {
        self.burst += 1;
        self.current = Some(port);
        if self.burst >= BURST {
            self.burst = 0;
            self.current = None;
            self.ready.defer(port);
        }
        if self.plan.lead != u64::MAX {
            self.taken[port] += 1;
            for held in self.held.drain(..) {
                self.ready.insert(held);
            }
        }
    }

    fn drop_port(&mut self, port: usize) {
        if self.streams[port].take().is_some() {
            self.live -= 1;
        }
        self.current = None;
        self.ready.clear(port);
    }

    #[inline]
    fn poll_port(&mut self, port: usize) -> Poll<PortN<S::Item>> {
        let Some(stream) = &mut self.streams[port] else {
            self.ready.clear(port);
            return Poll::Pending;
        };
        let mut cx = Context::from_waker(self.ready.waker(port));
        let Poll::Ready(item) = stream.as_mut().poll_next(&mut cx) else {
            self.ready.clear(port);
            self.current = None;
            self.burst = 0;
            return Poll::Pending;
        };
        match &item {
            Some(_) => self.took(port),
            None => self.drop_port(port),
        }
        if self.plan.once.is_some() || self.plan.turn == Turn::FirstToSpeak {
            self.spoke(port);
        }
        Poll::Ready(PortN { port, item })
    }

    /// What the plan says about a port that gave an item or ended.
    fn spoke(&mut self, port: usize) {
        if self.plan.once == Some(port) {
            self.drop_port(port);
        }
        if self.plan.turn == Turn::FirstToSpeak {
            self.plan.turn = Turn::All;
            (0..self.streams.len()).filter(|other| *other != port).for_each(|other| self.drop_port(other));
        }
    }

    /// The port whose turn it is, if it is ready.
    fn next_port(&mut self) -> Option<usize> {
        match self.plan.turn {
            Turn::InOrder => self.streams.iter().position(Option::is_some).filter(|port| self.ready.contains(*port)),
            Turn::All | Turn::FirstToSpeak => self.ready.first(self.plan.home),
        }
    }
}

impl<S: Stream> Stream for PortsN<S> {
    type Item = PortN<S::Item>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(port) = this.current
            && !this.is_held(port)
            && let Poll::Ready(item) = this.poll_port(port)
        {
            return Poll::Ready(Some(item));
        }
        loop {
            while let Some(port) = this.next_port() {
                if this.is_held(port) {
                    this.ready.clear(port);
                    this.held.push(port);
                } else if let Poll::Ready(item) = this.poll_port(port) {
                    return Poll::Ready(Some(item));
                }
            }
            if this.live == 0 {
                return Poll::Ready(None);
            }
            if !this.ready.next_round(cx) {
                return Poll::Pending;
            }
        }
    }
}

impl<S: Stream> IntoPorts for Vec<S> {
    type Port = PortN<S::Item>;
    type Source = PortsN<S>;

    fn ports(&self) -> usize {
        self.len()
    }

    fn into_source(self, plan: Plan) -> PortsN<S> {
        PortsN::new(self, plan)
    }
}

impl<S> fmt::Debug for PortsN<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortsN").field("live", &self.live).finish_non_exhaustive()
    }
}

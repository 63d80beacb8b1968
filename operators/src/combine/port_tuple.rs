//! Two to eight inputs, each of a type of its own.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use serde::{Deserialize, Serialize};

use super::port::{BURST, IntoPorts, Plan, Turn};

/// Whose turn it is, among `N` ports.
#[derive(Debug)]
struct Turns<const N: usize> {
    plan: Plan,
    /// Where the next round begins.
    next: usize,
    /// The port that goes on, and for how many items more.
    current: usize,
    more: u32,
    taken: [u64; N],
    live: [bool; N],
    /// A port was live and is no more.
    changed: bool,
}

impl<const N: usize> Turns<N> {
    const fn new(plan: Plan) -> Self {
        Self { plan, next: plan.home, current: 0, more: 0, taken: [0; N], live: [true; N], changed: false }
    }

    /// Whether the plan says more than that all ports have their turn.
    const fn strict(&self) -> bool {
        self.plan.lead != u64::MAX || self.plan.once.is_some() || !matches!(self.plan.turn, Turn::All)
    }

    /// Whether the port is too far ahead of the others to be polled now.
    fn held(&self, port: usize) -> bool {
        self.plan.lead != u64::MAX && {
            let least = self.taken.iter().min().copied().unwrap_or(0);
            self.taken[port] - least >= self.plan.lead
        }
    }

    /// The port gave an item, or ended.
    fn spoke(&mut self, port: usize, item: bool) {
        (self.current, self.more) = (port, if item && !self.strict() { BURST - 1 } else { 0 });
        self.next = (port + 1) % N;
        self.taken[port] += u64::from(item);
        if !item || self.plan.once == Some(port) {
            self.live[port] = false;
            self.changed = true;
        }
        if self.plan.turn == Turn::FirstToSpeak {
            self.plan.turn = Turn::All;
            (0..N).filter(|other| *other != port).for_each(|other| self.live[other] = false);
            self.changed = true;
        }
    }

    /// All wait.
    fn rest(&mut self) {
        (self.next, self.more) = (self.plan.home, 0);
    }
}

macro_rules! ports {
    ($n:literal: $Port:ident $Ports:ident $($S:ident $V:ident $s:ident $i:tt),+) => {
        #[doc = concat!("An item of one of ", $n, " inputs; `None` where that input has ended.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $Port<$($V),+> {
            $(
                #[doc = concat!("Input ", $i, ".")]
                $V(Option<$V>),
            )+
        }

        pin_project! {
            #[doc = concat!($n, " streams as one.")]
            #[derive(Debug)]
            pub struct $Ports<$($S),+> {
                $(#[pin] $s: Option<$S>,)+
                turns: Turns<$n>,
            }
        }

        impl<$($S: Stream),+> Stream for $Ports<$($S),+> {
            type Item = $Port<$($S::Item),+>;

            #[inline(always)]
            fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                let mut this = self.as_mut().project();
                // The one that spoke last goes on, if it can.
                let mut waits = $n;
                if this.turns.more > 0 {
                    this.turns.more -= 1;
                    waits = this.turns.current;
                    match waits {
                        $($i => match this.$s.as_mut().as_pin_mut().map(|stream| stream.poll_next(cx)) {
                            Some(Poll::Ready(Some(item))) => return Poll::Ready(Some($Port::$V(Some(item)))),
                            Some(Poll::Ready(None)) => {
                                this.turns.spoke($i, false);
                                this.$s.set(None);
                                return Poll::Ready(Some($Port::$V(None)));
                            }
                            Some(Poll::Pending) | None => {}
                        },)+
                        _ => {}
                    }
                }
                self.poll_all(waits, cx)
            }
        }

        impl<$($S: Stream),+> $Ports<$($S),+> {
            /// One port after another, from the one whose turn it is, but for one that was just found waiting.
            #[inline(never)]
            fn poll_all(self: Pin<&mut Self>, waits: usize, cx: &mut Context<'_>) -> Poll<Option<$Port<$($S::Item),+>>> {
                let mut this = self.project();
                let turns = this.turns;
                let mut port = if turns.plan.turn == Turn::InOrder { 0 } else { turns.next };
                for _ in 0..$n {
                    if port != waits && turns.live[port] && !turns.held(port) {
                        let found = match port {
                            $($i => match this.$s.as_mut().as_pin_mut().map(|stream| stream.poll_next(cx)) {
                                Some(Poll::Ready(item)) => {
                                    turns.spoke($i, item.is_some());
                                    Some($Port::$V(item))
                                }
                                Some(Poll::Pending) | None => None,
                            },)+
                            _ => None,
                        };
                        if found.is_some() {
                            if turns.changed {
                                turns.changed = false;
                                $(if !turns.live[$i] { this.$s.set(None); })+
                            }
                            return Poll::Ready(found);
                        }
                        if turns.plan.turn == Turn::InOrder {
                            break;
                        }
                    }
                    port = if port + 1 == $n { 0 } else { port + 1 };
                }
                turns.rest();
                if turns.live.contains(&true) { Poll::Pending } else { Poll::Ready(None) }
            }
        }

        impl<$($S: Stream),+> IntoPorts for ($($S,)+) {
            type Port = $Port<$($S::Item),+>;
            type Source = $Ports<$($S),+>;

            fn ports(&self) -> usize {
                $n
            }

            fn into_source(self, plan: Plan) -> Self::Source {
                $Ports { $($s: Some(self.$i),)+ turns: Turns::new(plan) }
            }
        }
    };
}

ports!(2: Port2 Ports2 SA A a 0, SB B b 1);
ports!(3: Port3 Ports3 SA A a 0, SB B b 1, SC C c 2);
ports!(4: Port4 Ports4 SA A a 0, SB B b 1, SC C c 2, SD D d 3);
ports!(5: Port5 Ports5 SA A a 0, SB B b 1, SC C c 2, SD D d 3, SE E e 4);
ports!(6: Port6 Ports6 SA A a 0, SB B b 1, SC C c 2, SD D d 3, SE E e 4, SF F f 5);
ports!(7: Port7 Ports7 SA A a 0, SB B b 1, SC C c 2, SD D d 3, SE E e 4, SF F f 5, SG G g 6);
ports!(8: Port8 Ports8 SA A a 0, SB B b 1, SC C c 2, SD D d 3, SE E e 4, SF F f 5, SG G g 6, SH H h 7);

/// Calls a macro once for each number of typed inputs.
macro_rules! for_each_arity {
    ($each:ident) => {
        $each!(Port2 A a 0, B b 1);
        $each!(Port3 A a 0, B b 1, C c 2);
        $each!(Port4 A a 0, B b 1, C c 2, D d 3);
        $each!(Port5 A a 0, B b 1, C c 2, D d 3, E e 4);
        $each!(Port6 A a 0, B b 1, C c 2, D d 3, E e 4, F f 5);
        $each!(Port7 A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6);
        $each!(Port8 A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7);
    };
}
pub(super) use for_each_arity;

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
    next: usize,
    burst: u32,
    taken: [u64; N],
    live: [bool; N],
}

impl<const N: usize> Turns<N> {
    const fn new(plan: Plan) -> Self {
        Self { plan, next: plan.home, burst: 0, taken: [0; N], live: [true; N] }
    }

    /// Whether the port is too far ahead of the others to be polled now.
    fn held(&self, port: usize) -> bool {
        self.plan.lead != u64::MAX && {
            let least = self.taken.iter().min().copied().unwrap_or(0);
            self.taken[port] - least >= self.plan.lead
        }
    }

    #[inline]
    fn took(&mut self, port: usize) {
        self.taken[port] += 1;
        self.burst = if port == self.next { self.burst + 1 } else { 1 };
        self.next = port;
        if self.burst >= BURST {
            self.burst = 0;
            self.next = (port + 1) % N;
        }
    }

    fn ended(&mut self, port: usize) {
        self.live[port] = false;
        self.next = (port + 1) % N;
        self.burst = 0;
    }

    /// All wait.
    fn rest(&mut self) {
        self.next = self.plan.home;
        self.burst = 0;
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

            #[inline]
            fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                let mut this = self.project();
                let turns = this.turns;
                let start = if turns.plan.turn == Turn::InOrder { 0 } else { turns.next };
                for port in (start..$n).chain(0..start) {
                    if !turns.live[port] || turns.held(port) {
                        continue;
                    }
                    let item = match port {
                        $($i => this.$s.as_mut().as_pin_mut().map(|stream| stream.poll_next(cx).map($Port::$V)),)+
                        _ => None,
                    };
                    let Some(Poll::Ready(item)) = item else {
                        if turns.plan.turn == Turn::InOrder {
                            break;
                        }
                        continue;
                    };
                    match &item {
                        $($Port::$V(None) => { this.$s.set(None); turns.ended(port); })+
                        _ => turns.took(port),
                    }
                    if turns.plan.once == Some(port) {
                        turns.live[port] = false;
                        $(if port == $i { this.$s.set(None); })+
                    }
                    if turns.plan.turn == Turn::FirstToSpeak {
                        turns.plan.turn = Turn::All;
                        $(if port != $i { this.$s.set(None); turns.live[$i] = false; })+
                    }
                    return Poll::Ready(Some(item));
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

//! The whole engine: a runtime over the store, driven through lives on a simulated disk.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`plan`], [`life`], [`actors`] | open a runtime, work with it from many sides, and cut it off, shut it down or let it come to rest |
//! | [`world`], [`events`] | its handlers and its stages, and what they say and keep |
//! | [`stepped`] | commits, and tells of it, when it is its turn, so that a seed repeats |
//! | [`chronicle`] | what was asked and answered |
//! | [`audit`], [`found`], [`check`], `lossy`, `ordered`, `windows` | let what a crash has left do all that it owes, read it, and hold it to the chronicle |
//! | [`bugs`] | what is planted between the engine and its store |
//!
//! # The workload
//! Orders are emitted alone and together, in all classes, some delayed, some with an idempotency key and again. `bill` handles
//! them in the order of their users, fails some now and some for good, counts in rows, appends to ledgers and returns what
//! `archive` handles, at once or later. `settle` handles them too, and halts a user of whose orders one is a dead letter;
//! `journal` handles changes of carts in strict order. The stage `totals` sums orders up, the stage `calm` waits until a user is
//! quiet, the stage `windows` puts readings of meters into windows of their own time. Others append to carts behind a version and
//! write rows from outside, and dead letters are replayed. Where there are tenants, all of them do so with the same keys. In
//! some runs the log keeps all, in others only what is not handled, or as much as a limit allows; and where the limit is strict,
//! `slow` is so far behind that it loses some. A seed decides which of these [parts](plan::Part) live in a run.
//!
//! # What an image is held to
//! What was acknowledged is there once; what was refused is not; nothing is there that nobody asked for. Each order is billed
//! once or a dead letter, and once all are replayed, billed. Outputs and rows are there once for each bill, in the order of the
//! key; carts and ledgers have each version; totals are those of the log, said once each; each user's last order was calm
//! once; each reading is in one window, which never opens again, or late for a reason; behind a dead letter that halts its key
//! nothing of it is handled, and once it is replayed, all in order; delayed ones do not come early, and the key of an effect
//! never changes; nothing of one tenant is another's; a subscription has lost no more than it was told; the books balance.

pub mod actors;
pub mod audit;
pub mod bugs;
pub mod check;
pub mod chronicle;
pub mod events;
pub mod found;
pub mod life;
mod lossy;
mod ordered;
pub mod plan;
pub mod stepped;
mod windows;
pub mod world;

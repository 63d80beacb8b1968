//! The whole engine: a runtime with handlers and stages over the store, driven through lives on a simulated disk.

pub mod actors;
pub mod audit;
pub mod bugs;
pub mod check;
pub mod chronicle;
pub mod events;
pub mod found;
pub mod life;
pub mod plan;
pub mod stepped;
pub mod world;

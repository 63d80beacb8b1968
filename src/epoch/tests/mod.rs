//! Stages over a store that lands when it is told to, against a model that knows no store.

mod crash;
mod kit;
mod model;
mod slow;
mod steps;

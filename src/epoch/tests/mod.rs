//! Stages over a store that lands when it is told to, against a model that knows no store.

mod catalogue;
mod crash;
mod keys;
mod kit;
mod model;
mod poison;
mod slow;
mod steps;
mod versions;

//! What tower has right already, to be had from here.
//!
//! | tower's | for |
//! | --- | --- |
//! | [`MapErrLayer`] | map error |
//! | [`MapRequestLayer`], [`MapResponseLayer`], [`MapResultLayer`] | map a request, a response, both outcomes |
//! | [`AndThenLayer`], [`ThenLayer`] | go on with an asynchronous function |
//! | [`BoxCloneServiceLayer`], [`BoxCloneService`] | give a stack a type that can be written down |
//! | [`ServiceBuilder`], [`ServiceExt`], [`service_fn`] | build and call |
//!
//! Not from here, and why: its timeout and load shed box every error and so lose its type; its load shed stays in the queue
//! it did not wait for; its concurrency limit has no queue limit and no keys; its rate limit cannot be cloned; its retry
//! leaves the policy to you; its buffer spawns a task that nobody owns.

pub use tower::util::{
    AndThenLayer, BoxCloneService, BoxCloneServiceLayer, MapErrLayer, MapRequestLayer, MapResponseLayer,
    MapResultLayer, ThenLayer,
};
pub use tower::{ServiceBuilder, ServiceExt, service_fn};

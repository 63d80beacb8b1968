use std::time::Duration;

use crate::BoxError;

/// Which claim of a key this is; a later claim fences an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim<T> {
    /// The key is yours: make the call.
    Granted(Token),
    /// Another call holds the key.
    InProgress,
    /// The call was made; this was its answer.
    Answered(T),
}

/// Where answers are kept by key. Each method is atomic for its key.
pub trait AnswerStore<K, T>: Send + Sync + 'static {
    /// Claims `key` for `lease`, unless it is answered or claimed. A claim whose lease has ended counts for nothing.
    ///
    /// # Errors
    /// Whatever the store fails with.
    fn claim(&self, key: &K, lease: Duration) -> impl Future<Output = Result<Claim<T>, BoxError>> + Send;

    /// Keeps `answer` for `life`, if `token` is still the claim of `key`.
    ///
    /// # Errors
    /// Whatever the store fails with.
    fn answer(
        &self,
        key: &K,
        token: Token,
        answer: T,
        life: Duration,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Gives `key` up, if `token` is still its claim. It is called from `drop`, so it must not wait; a store that cannot
    /// do it now may leave the claim to its lease.
    fn give_up(&self, key: &K, token: Token);
}

use std::fmt;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::store::{AnswerStore, Claim, Token};
use crate::BoxError;
use crate::clock::{lock, now};
use crate::expiring::Expiring;

/// Answers in memory, for one process.
pub struct MemoryAnswers<K, T> {
    inner: Mutex<Inner<K, T>>,
}

struct Inner<K, T> {
    entries: Expiring<K, Entry<T>>,
    tokens: u64,
}

enum Entry<T> {
    Claimed(Token),
    Answered(T),
}

impl<K: Hash + Eq + Clone, T> MemoryAnswers<K, T> {
    /// Keeps at most `capacity` claims and answers; beyond that the one that expires first is forgotten.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { inner: Mutex::new(Inner { entries: Expiring::new(capacity), tokens: 0 }) }
    }

    /// How many keys are claimed or answered.
    #[must_use]
    pub fn keys(&self) -> usize {
        lock(&self.inner).entries.len(now())
    }
}

impl<K: Hash + Eq + Clone, T> Default for MemoryAnswers<K, T> {
    /// 100,000 keys.
    fn default() -> Self {
        Self::new(100_000)
    }
}

impl<T> Entry<T> {
    fn is_claim(&self, of: Token) -> bool {
        matches!(self, Self::Claimed(token) if *token == of)
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Inner<K, T> {
    fn claim(&mut self, key: &K, lease: Duration, now: Instant) -> Claim<T> {
        match self.entries.get(key, now) {
            Some(Entry::Answered(answer)) => return Claim::Answered(answer.clone()),
            Some(Entry::Claimed(_)) => return Claim::InProgress,
            None => {}
        }
        self.tokens += 1;
        let token = Token(self.tokens);
        self.entries.insert(key.clone(), Entry::Claimed(token), lease, now);
        Claim::Granted(token)
    }
}

impl<K, T> AnswerStore<K, T> for MemoryAnswers<K, T>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Clone + Send + 'static,
{
    async fn claim(&self, key: &K, lease: Duration) -> Result<Claim<T>, BoxError> {
        Ok(lock(&self.inner).claim(key, lease, now()))
    }

    async fn answer(&self, key: &K, token: Token, answer: T, life: Duration) -> Result<(), BoxError> {
        let now = now();
        let entries = &mut lock(&self.inner).entries;
        if entries.get(key, now).is_some_and(|entry| entry.is_claim(token)) {
            entries.insert(key.clone(), Entry::Answered(answer), life, now);
        }
        Ok(())
    }

    fn give_up(&self, key: &K, token: Token) {
        let entries = &mut lock(&self.inner).entries;
        if entries.get(key, now()).is_some_and(|entry| entry.is_claim(token)) {
            entries.remove(key);
        }
    }
}

impl<K, T> fmt::Debug for MemoryAnswers<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAnswers").finish_non_exhaustive()
    }
}

//! Shares numbered work among threads.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use crate::wait::Hang;

/// Does pieces of work by their numbers, from 0 on, until one says that there are no more; folds what comes of them.
///
/// # Errors
/// [`Hang`] if a store did not answer: the others stop.
pub fn each<T: Send + Default>(
    threads: usize,
    work: impl Fn(u64) -> Result<Option<T>, Hang> + Sync,
    fold: impl Fn(&mut T, T) + Sync,
) -> Result<T, Hang> {
    let (next, is_over, is_hung) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let total = Mutex::new(T::default());
    let go_on = || {
        while !is_over.load(Ordering::Relaxed) {
            match work(next.fetch_add(1, Ordering::Relaxed)) {
                Ok(Some(done)) => fold(&mut total.lock().unwrap_or_else(PoisonError::into_inner), done),
                Ok(None) => is_over.store(true, Ordering::Relaxed),
                Err(Hang) => {
                    is_hung.store(true, Ordering::Relaxed);
                    is_over.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(go_on);
        }
    });
    if is_hung.into_inner() { Err(Hang) } else { Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_work_is_done_once_and_a_hang_ends_it() {
        let work = |number| Ok((number < 1000).then_some(number + 1));
        assert_eq!(each(3, work, |sum: &mut u64, number| *sum += number).unwrap(), 500_500);
        let hangs = |number| if number < 5 { Ok(Some(1)) } else { Err(Hang) };
        assert!(each(2, hangs, |sum: &mut u64, number| *sum += number).is_err());
    }
}

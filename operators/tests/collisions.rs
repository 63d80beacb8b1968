//! A flow's methods win where both traits of stream methods are imported: with either alone, and with both, a call means
//! ours. Every name that the two traits share is called here; any other of their names would compile too.

use futures::{StreamExt as _, executor::block_on, stream::iter};
use millstream_operators::{chain, flow};
use tokio_stream::StreamExt as _;

#[test]
fn names_that_both_traits_have_mean_ours() {
    block_on(async {
        assert_eq!(flow(iter([1, 2])).all(|x| *x > 0).next().await, Some(true));
        assert_eq!(flow(iter([1, 2])).any(|x| *x > 1).next().await, Some(true));
        assert_eq!(flow(iter([1, 2])).chain(iter([3])).collect::<Vec<_>>().await, [1, 2, 3]);
        assert_eq!(flow(iter([1, 2])).filter(|x| *x > 1).collect::<Vec<_>>().await, [2]);
        assert_eq!(flow(iter([1, 2])).filter_map(|x| (x > 1).then_some(x)).collect::<Vec<_>>().await, [2]);
        assert_eq!(flow(iter([1, 2])).fold(0, |sum, x| *sum += x).next().await, Some(3));
        assert_eq!(flow(iter([1, 2])).fuse().collect::<Vec<_>>().await, [1, 2]);
        assert_eq!(flow(iter([1, 2])).map(|x| x + 1).collect::<Vec<_>>().await, [2, 3]);
        assert_eq!(flow(flow(iter([1, 2])).peekable()).collect::<Vec<_>>().await, [1, 2]);
        assert_eq!(flow(iter([1, 2])).skip(1).collect::<Vec<_>>().await, [2]);
        assert_eq!(flow(iter([1, 2])).skip_while(|x| *x < 2).collect::<Vec<_>>().await, [2]);
        assert_eq!(flow(iter([1, 2])).take(1).collect::<Vec<_>>().await, [1]);
        assert_eq!(flow(iter([1, 2])).take_while(|x| *x < 2).collect::<Vec<_>>().await, [1]);
        assert_eq!(flow(iter([1, 2])).then(|x| async move { x + 1 }).collect::<Vec<_>>().await, [2, 3]);
    });
}

#[test]
fn names_that_one_trait_has_mean_ours() {
    block_on(async {
        assert_eq!(flow(iter([1, 2, 3])).chunks(2).collect::<Vec<_>>().await, [vec![1, 2], vec![3]]);
        assert_eq!(flow(iter([1, 2])).concat(iter([3])).collect::<Vec<_>>().await, [1, 2, 3]);
        assert_eq!(flow(iter([1, 2])).count().next().await, Some(2));
        assert_eq!(flow(iter([1, 2])).flat_map(1, |x| iter([x; 2])).collect::<Vec<_>>().await, [1, 1, 2, 2]);
        assert_eq!(flow(iter([1, 2])).inspect(|_| {}).collect::<Vec<_>>().await, [1, 2]);
        assert_eq!(flow(iter([1, 2])).merge(iter([3])).collect::<Vec<_>>().await, [1, 2, 3]);
        assert_eq!(flow(iter([1, 2])).scan(0, |sum, x| *sum += x).collect::<Vec<_>>().await, [1, 3]);
        assert_eq!(flow(iter([1, 2])).zip(iter(["a"])).collect::<Vec<_>>().await, [(1, "a")]);
        assert_eq!(flow(iter([1, 2])).boxed().collect::<Vec<_>>().await, [1, 2]);
        let mut sum = 0;
        flow(iter([1, 2])).for_each(|x| sum += x).await;
        assert_eq!(sum, 3);
    });
}

#[test]
fn a_foreign_adapter_and_back() {
    block_on(async {
        let numbered = flow(flow(iter(["a", "b"])).enumerate()).map(|(n, s)| format!("{n}{s}"));
        assert_eq!(numbered.collect::<Vec<_>>().await, ["0a", "1b"]);
        let few = flow(flow(iter([1, 2, 3])).map_while(|x| (x < 3).then_some(x))).count();
        assert_eq!(few.collect::<Vec<_>>().await, [2]);
    });
}

#[test]
fn chains_are_fluent_too() {
    assert_eq!(chain().filter(|x| x % 2 == 0).map(|x: u32| x + 1).take(1).run_now(0..9), [1]);
}

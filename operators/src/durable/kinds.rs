//! What each operator's part is called.

use super::Part;
use crate::{
    Identity,
    buffer::{Batch, BatchWeight, BufferCount, BufferTime, Tumbling, WindowCount},
    combine::{BufferOn, CombineLatest, Merge, Race, SampleOn, SkipUntil, TakeUntil, WithLatestFrom, Zip},
    error::Recover,
    filter::{
        Distinct, DistinctByKey, DistinctUntilChanged, DistinctUntilKeyChanged, ElementAt, ElementAtOr, Filter,
        FilterMap, Find, First, FirstOr, IgnoreElements, Last, LastOr, Skip, SkipLast, SkipWhile, Take, TakeLast,
        TakeWhile,
    },
    keyed::{Expire, PerKey},
    reduce::{Any, Count, Every, Fold, IsEmpty, Max, MaxByKey, Min, MinByKey, Reduce, ToVec},
    time::{Audit, Debounce, DebounceMax, Delay, EventTime, RateLimit, Reorder, Sample, Throttle, Timeout},
    transform::{DefaultIfEmpty, EndWith, Inspect, Map, Pairwise, Scan, ScanFirst, StartWith},
};

macro_rules! kinds {
    ($($Operator:ident $(<$($G:ident),+>)? = $kind:literal;)+) => {
        $(impl $(<$($G),+>)? Part for $Operator $(<$($G),+>)? {
            const KIND: &'static str = $kind;
        })+
    };
}

kinds! {
    Identity = "identity";
    Batch = "batch";
    BatchWeight<F> = "batch_weight";
    BufferCount = "buffer_count";
    BufferTime = "buffer_time";
    Tumbling<O> = "tumbling";
    WindowCount = "window_count";
    BufferOn = "buffer_on";
    CombineLatest = "combine_latest";
    Merge = "merge";
    Race = "race";
    SampleOn = "sample_on";
    SkipUntil = "skip_until";
    TakeUntil = "take_until";
    WithLatestFrom = "with_latest_from";
    Zip = "zip";
    Recover<F> = "recover";
    Distinct = "distinct";
    DistinctByKey<F> = "distinct_by_key";
    DistinctUntilChanged = "distinct_until_changed";
    DistinctUntilKeyChanged<F> = "distinct_until_key_changed";
    ElementAt = "element_at";
    ElementAtOr<T> = "element_at_or";
    Filter<F> = "filter";
    FilterMap<F> = "filter_map";
    Find<F> = "find";
    First = "first";
    FirstOr<T> = "first_or";
    IgnoreElements = "ignore_elements";
    Last = "last";
    LastOr<T> = "last_or";
    Skip = "skip";
    SkipLast = "skip_last";
    SkipWhile<F> = "skip_while";
    Take = "take";
    TakeLast = "take_last";
    TakeWhile<F> = "take_while";
    Expire<O> = "expire";
    PerKey<F, O> = "per_key";
    Any<F> = "any";
    Count = "count";
    Every<F> = "every";
    Fold<A, F> = "fold";
    IsEmpty = "is_empty";
    Max = "max";
    MaxByKey<F> = "max_by_key";
    Min = "min";
    MinByKey<F> = "min_by_key";
    Reduce<F> = "reduce";
    ToVec = "to_vec";
    Audit = "audit";
    Debounce = "debounce";
    DebounceMax = "debounce_max";
    Delay = "delay";
    EventTime<F, O> = "event_time";
    RateLimit = "rate_limit";
    Reorder<F> = "reorder";
    Sample = "sample";
    Throttle = "throttle";
    Timeout = "timeout";
    DefaultIfEmpty<T> = "default_if_empty";
    EndWith<T> = "end_with";
    Inspect<F> = "inspect";
    Map<F> = "map";
    Pairwise = "pairwise";
    Scan<A, F> = "scan";
    ScanFirst<F> = "scan_first";
    StartWith<T> = "start_with";
}

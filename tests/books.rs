//! Both books balance, and nothing is left at rest, over random graphs of handlers.

use std::time::Duration;

use millstream::{Context, Draft, Handler, HandlerError, Json, Overflow, Priority, Retry, Runtime, Share, testing};
use proptest::prelude::*;
use serde_json::json;

/// What one subscription does.
#[derive(Clone, Debug)]
struct Node {
    listens: u8,
    returns: Vec<u8>,
    behaviour: u8,
    takes_ms: u64,
    concurrency: usize,
    ordered: bool,
    share: Share,
}

#[derive(Clone, Debug)]
struct Graph {
    nodes: Vec<Node>,
    emits: Vec<(u8, Option<u8>, Priority)>,
    queue_size: usize,
    overflow: Overflow,
    tenants: bool,
}

fn node() -> impl Strategy<Value = Node> {
    let share = prop_oneof![Just(Share::Refuse), Just(Share::DropOldest), Just(Share::DeadLetter)];
    (0..5_u8, prop::collection::vec(0..5_u8, 0..3), 0..10_u8, 0..3_u64, 1..4_usize, any::<bool>(), share).prop_map(
        |(listens, returns, behaviour, takes_ms, concurrency, ordered, share)| Node {
            listens,
            returns,
            behaviour,
            takes_ms,
            concurrency,
            ordered,
            share,
        },
    )
}

fn graph() -> impl Strategy<Value = Graph> {
    let class =
        prop_oneof![Just(Priority::Critical), Just(Priority::High), Just(Priority::Normal), Just(Priority::Low)];
    let emits = prop::collection::vec((0..5_u8, prop::option::of(0..3_u8), class), 1..40);
    let overflow = prop_oneof![Just(Overflow::Refuse), Just(Overflow::DropOldest), Just(Overflow::DropNewest)];
    (prop::collection::vec(node(), 0..5), emits, 1..20_usize, overflow, any::<bool>())
        .prop_map(|(nodes, emits, queue_size, overflow, tenants)| Graph { nodes, emits, queue_size, overflow, tenants })
}

fn name(number: u8) -> String {
    format!("n.{number}")
}

#[expect(clippy::panic, reason = "as told")]
async fn behave(node: Node, context: Context) -> Result<Vec<Draft>, HandlerError> {
    if node.takes_ms > 0 {
        tokio::time::sleep(Duration::from_millis(node.takes_ms)).await;
    }
    match node.behaviour {
        0 if context.attempt() < 3 => Err(HandlerError::transient("not yet")),
        1 => Err(HandlerError::permanent("never")),
        2 => panic!("as told"),
        3 => std::future::pending().await,
        _ => {
            let key = context.event().key().cloned();
            let draft = |number: &u8| match &key {
                Some(key) => Draft::json(&name(*number), json!(1)).key(key),
                None => Draft::json(&name(*number), json!(1)),
            };
            Ok(node.returns.iter().map(draft).collect())
        }
    }
}

fn run(graph: &Graph) {
    let builder = Runtime::builder().queue_size(graph.queue_size).overflow(graph.overflow).max_event_depth(6);
    let builder = builder.max_events_per_root(60).operation_timeout(Duration::from_secs(1)).batch_size(3);
    testing::run(builder, async |kit| {
        for node in &graph.nodes {
            let listens = name(node.listens);
            let (options, node) = (node.clone(), node.clone());
            let handler = move |context: Context, _: Json| behave(node.clone(), context);
            let handler = handler.concurrency(options.concurrency).when_saturated(options.share);
            let handler = handler.retry(Retry::fixed(Duration::from_millis(2)).attempts(3));
            if options.ordered {
                kit.on(&listens, handler.ordered_by_key())?;
            } else {
                kit.on(&listens, handler)?;
            }
        }
        let mut accepted = 0;
        for (place, (number, key, class)) in graph.emits.iter().enumerate() {
            let mut draft = Draft::json(&name(*number), json!(1)).priority(*class);
            if let Some(key) = key {
                draft = draft.key(*key);
                if graph.tenants {
                    draft = draft.tenant(if *key == 0 { "one" } else { "two" });
                }
            }
            accepted += u64::from(kit.emit(draft).is_ok());
            if place % 7 == 6 {
                drop(tokio::time::timeout(Duration::from_millis(1), kit.process()).await);
                kit.assert_balanced();
            }
        }
        kit.settle().await;
        let stats = kit.stats();
        assert!(stats.events.emitted >= accepted);
        assert_eq!(
            (stats.events.queued, stats.deliveries.open(), stats.held),
            (0, 0, 0),
            "{graph:#?}\n{}",
            kit.timeline()
        );
        assert_eq!(stats.deliveries.dead + stats.events.dropped.loops, kit.all_dead_letters().len() as u64);
        Ok(())
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_left_over_in_any_graph(graph in graph()) {
        // What the handlers panic with is told; it need not be printed ten thousand times.
        std::panic::set_hook(Box::new(|info| {
            if !info.to_string().contains("as told") {
                eprintln!("{info}");
            }
        }));
        run(&graph);
    }
}

/// 10,000 by default; `MILLSTREAM_GRAPHS` sets another number.
fn cases() -> u32 {
    std::env::var("MILLSTREAM_GRAPHS").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000)
}

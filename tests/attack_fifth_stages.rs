//! What a fifth attack on durable operator stages has found: each test fails without the mend that came with it.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use millstream::{
    Builder, DeadLetterFilter, Event, Handler, Runtime, Stage, chain,
    store::{Memory, Store},
    testing::{self, TestKit},
};
use serde::{Deserialize, Serialize};

fn on(store: &(impl Store + Clone)) -> Builder {
    Runtime::builder().store(store.clone())
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "step", key = "order")]
struct Step {
    order: u32,
    is_answer: bool,
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "question", key = "order")]
struct Question {
    order: u32,
    asked: u32,
}

/// Each order is asked about once, and the answer goes to the same stage, which asks nothing then.
#[test]
fn a_key_that_sees_what_comes_of_its_own_outputs_is_no_loop_however_often_it_begins_anew() {
    let store = Memory::new();
    for round in 0..2 {
        testing::run(on(&store).max_event_depth(5), async |kit: TestKit| {
            let asks = chain().scan((0, false), |(asked, is_answer): &mut (u32, bool), step: Step| {
                *is_answer = step.is_answer;
                *asked += u32::from(!step.is_answer);
            });
            let asks = asks.filter(|(_, is_answer)| !is_answer).map(|(asked, _)| Question { order: 1, asked });
            kit.stage("asks", Stage::keyed(|step: &Step| step.order, asks))?;
            let answer = |question: Question| async move { Step { order: question.order, is_answer: true } };
            kit.on("question", answer.named("answer"))?;
            for _ in 0..20 {
                kit.emit(Step { order: 1, is_answer: false })?;
                kit.settle().await;
            }
            let letters = kit.dead_letters(&DeadLetterFilter::all());
            assert!(letters.is_empty(), "{round}: {} of {:?}", letters.len(), letters[0].reason());
            assert_eq!(kit.stages()[0].counts.emitted, 20 * (round + 1));
            Ok(())
        });
    }
}

#[test]
fn a_loop_through_a_stage_still_ends_though_events_of_other_roots_come_in_between() {
    testing::run(on(&Memory::new()).max_event_depth(5), async |kit: TestKit| {
        let asks = chain().scan(0, |asked, _: Step| *asked += 1).map(|asked| Question { order: 1, asked });
        kit.stage("asks", Stage::keyed(|step: &Step| step.order, asks))?;
        let again = |question: Question| async move { Step { order: question.order, is_answer: false } };
        kit.on("question", again.named("again"))?;
        for _ in 0..4 {
            kit.emit(Step { order: 1, is_answer: false })?;
        }
        kit.settle().await;
        let letters = kit.dead_letters(&DeadLetterFilter::all());
        assert_eq!(letters.len(), 4, "each root has one");
        assert!(letters.iter().all(|letter| letter.reason().contains("max_event_depth")), "{}", letters[0].reason());
        Ok(())
    });
}

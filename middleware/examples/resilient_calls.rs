//! A flaky service behind retry, breaker and limit, drawn as a timeline.
//!
//! `cargo run -p millstream-middleware --example resilient_calls`
//!
//! Four callers a second ask for a minute. The service fails one call in ten; from second 15 to 35 it is down and fails
//! them all, slowly. Time is virtual: a minute takes a moment, and every run is the same.
#![allow(clippy::print_stdout, reason = "it draws")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_middleware::breaker::{Breaker, BreakerLayer, State, Trip};
use millstream_middleware::concurrency::{ConcurrencyLayer, Limit};
use millstream_middleware::retry::{Retry, RetryLayer};
use millstream_middleware::stack::Stack;
use millstream_middleware::timeout::{DeadlineLayer, TimeoutLayer};
use millstream_middleware::{BoxError, LiftLayer, Part};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECONDS: usize = 60;
const OUTAGE: std::ops::Range<usize> = 15..35;
const S: Duration = Duration::from_secs(1);

type Failure = millstream_middleware::Failure<String>;

fn main() -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(minute())
}

async fn minute() -> Result<(), BoxError> {
    let chart = Chart::new();
    let noted = chart.clone();
    let retry = RetryLayer::new(Retry::exponential().initial(S / 2).max_delay(S * 4))?;
    let retry = retry.seed(7).observe(move |_: &Failure, _| noted.add(Row::Retries));
    let breaker = BreakerLayer::new(Trip::default().window(S * 10).minimum(8).open_for(S * 3, S * 6))?;
    let limit = ConcurrencyLayer::new(Limit::new(6))?;

    let stack = Stack::builder("downstream")
        .layer(DeadlineLayer::new(S * 15)?)
        .layer(retry)
        .layer(breaker.clone())
        .layer(limit.clone())
        .layer(TimeoutLayer::new(S * 2)?)
        .layer(LiftLayer)
        .build()?;
    println!("{}\n", stack.parts().iter().map(Part::to_string).collect::<Vec<_>>().join("\n  "));

    let mut callers = JoinSet::new();
    callers.spawn(watch(chart.clone(), breaker.breaker().clone(), limit));
    for n in 0..SECONDS as u64 * 4 {
        callers.spawn(call(n, chart.clone(), stack.layer(flaky(chart.clone()))));
    }
    callers.join_all().await;
    chart.draw();
    Ok(())
}

/// A service that takes 0.2 to 0.8 s, or 1.5 s to fail while it is down.
fn flaky(chart: Chart) -> impl Service<u64, Response = (), Error = String, Future: Send> + Clone {
    service_fn(move |n: u64| {
        let chart = chart.clone();
        async move {
            chart.add(Row::Attempts);
            let mut random = fastrand::Rng::with_seed(n ^ u64::try_from(chart.millis()).unwrap_or(0));
            let down = OUTAGE.contains(&chart.second());
            sleep(if down { S * 3 / 2 } else { Duration::from_millis(random.u64(200..800)) }).await;
            if down || random.u8(0..10) == 0 {
                chart.add(Row::Failures);
                return Err("no answer".to_owned());
            }
            Ok(())
        }
    })
}

async fn call<S>(n: u64, chart: Chart, service: S)
where
    S: Service<u64, Response = (), Error = Failure>,
{
    sleep(Duration::from_millis(250 * n)).await;
    match service.oneshot(n).await {
        Ok(()) => chart.add(Row::Answered),
        Err(_) => chart.add(Row::GaveUp),
    }
}

/// Looks at the breaker and the limit twice a second.
async fn watch(chart: Chart, breaker: Breaker, limit: ConcurrencyLayer) {
    for _ in 0..SECONDS * 2 {
        chart.state(breaker.state());
        chart.raise(Row::Running, 6 - limit.available());
        sleep(S / 2).await;
    }
}

#[derive(Clone, Copy)]
enum Row {
    Attempts,
    Failures,
    Retries,
    Running,
    Answered,
    GaveUp,
}

const ROWS: [(&str, Row); 6] = [
    ("attempts", Row::Attempts),
    ("  failed", Row::Failures),
    ("  retries", Row::Retries),
    ("at once", Row::Running),
    ("answered", Row::Answered),
    ("gave up", Row::GaveUp),
];

/// Counts by second.
#[derive(Clone)]
struct Chart {
    origin: Instant,
    cells: Arc<Mutex<Cells>>,
}

struct Cells {
    rows: [[usize; SECONDS]; ROWS.len()],
    states: [char; SECONDS],
}

impl Chart {
    #[expect(clippy::disallowed_methods, reason = "the clock of the example is tokio's, paused")]
    fn new() -> Self {
        let cells = Cells { rows: [[0; SECONDS]; ROWS.len()], states: [' '; SECONDS] };
        Self { origin: Instant::now(), cells: Arc::new(Mutex::new(cells)) }
    }

    fn millis(&self) -> u128 {
        self.origin.elapsed().as_millis()
    }

    fn second(&self) -> usize {
        usize::try_from(self.millis() / 1_000).map_or(SECONDS - 1, |second| second.min(SECONDS - 1))
    }

    fn change(&self, change: impl FnOnce(&mut Cells, usize)) {
        let second = self.second();
        change(&mut self.cells.lock().unwrap_or_else(PoisonError::into_inner), second);
    }

    fn add(&self, row: Row) {
        self.change(|cells, second| cells.rows[row as usize][second] += 1);
    }

    fn raise(&self, row: Row, to: usize) {
        self.change(|cells, second| {
            let cell = &mut cells.rows[row as usize][second];
            *cell = to.max(*cell);
        });
    }

    fn state(&self, state: State) {
        let mark = match state {
            State::Closed => '·',
            State::HalfOpen => '?',
            State::Open => '■',
        };
        self.change(|cells, second| cells.states[second] = mark);
    }

    fn draw(&self) {
        let cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let ticks = (0..SECONDS).step_by(10).fold(String::new(), |ticks, second| ticks + &format!("{second:<10}"));
        let health: String = (0..SECONDS).map(|s| if OUTAGE.contains(&s) { '×' } else { '─' }).collect();
        println!("{:<12}{ticks}", "second");
        println!("{:<12}{health}  × down", "service");
        println!("{:<12}{}  · closed  ■ open  ? half-open", "breaker", cells.states.iter().collect::<String>());
        for (name, row) in ROWS {
            let row = &cells.rows[row as usize];
            let bars: String = row.iter().map(|count| bar(*count)).collect();
            let sum: usize = row.iter().sum();
            let total =
                if name == "at once" { format!("most {}", row.iter().max().unwrap_or(&0)) } else { sum.to_string() };
            println!("{name:<12}{bars}  {total}");
        }
    }
}

/// A count as a bar: one step for each, eight at most.
fn bar(count: usize) -> char {
    [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][count.min(8)]
}

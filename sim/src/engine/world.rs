//! What a runtime of the workload does: its handlers and its stages, the same in each life.

use std::{
    collections::BTreeMap,
    error::Error,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use millstream::{
    Builder, Clock, Context, Draft, EventId, Flow, Handler, HandlerError, Key, OnError, Retry, Runtime, Stage,
    StageError, Start, Storage, StorageError, Timestamp, chain, operators::buffer::Windowed, store::Store,
};

use super::{
    events::{
        self, Bill, Billed, Calm, Change, Entry, LATENESS, Order, Reading, Total, WIDTH, Window, has_entry,
        is_unsettled, rooms,
    },
    plan::{Part, Plan},
};

/// The keys of effects, by subscription and event.
pub type Effects = BTreeMap<(String, EventId), String>;

/// What handlers share, and what they have seen.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    /// Whether all orders can be billed.
    is_mended: AtomicBool,
    /// Whether the machine's clock was set back.
    is_set_back: AtomicBool,
    book: Mutex<Book>,
}

/// What was seen.
#[derive(Debug, Default)]
struct Book {
    effects: Effects,
    wrong: Vec<String>,
}

/// What the handler of the bills says.
const CLOSED: &str = "the bank is closed";

impl World {
    /// The world of a plan, which goes on with what was seen before.
    pub fn of(plan: Plan, effects: Effects) -> Arc<Self> {
        Arc::new(Self {
            plan,
            is_mended: AtomicBool::new(false),
            is_set_back: AtomicBool::new(false),
            book: Mutex::new(Book { effects, wrong: Vec::new() }),
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on all orders can be billed, or not.
    pub fn mend(&self, is_mended: bool) {
        self.is_mended.store(is_mended, Ordering::Relaxed);
    }

    /// The machine's clock was set back: nobody can say when something is due.
    pub fn set_back(&self) {
        self.is_set_back.store(true, Ordering::Relaxed);
    }

    /// What was wrong, and the keys of all effects.
    pub fn take(&self) -> (Vec<String>, Effects) {
        let mut book = self.book();
        (std::mem::take(&mut book.wrong), book.effects.clone())
    }

    fn say(&self, what: String) {
        self.book().wrong.push(what);
    }

    /// A handler begins: the key of its effect is the same each time, and the event is of the tenant that emitted it.
    fn sees(&self, context: &Context, clock: Clock, delay_ms: u64, tenant: u8) {
        let (event, name) = (context.event(), context.subscription());
        if event.tenant() != events::tenant(tenant).as_ref() {
            self.say(format!("{} of tenant {tenant} came to `{name}` as one of {:?}", event.id(), event.tenant()));
        }
        let key = context.effect_key("effect");
        let before = self.book().effects.insert((name.to_owned(), event.id()), key.clone());
        if before.is_some_and(|before| before != key) {
            self.say(format!("the key of the effect of `{name}` on {} has changed", event.id()));
        }
        let due = event.emitted_at() + Duration::from_millis(delay_ms);
        if clock.now() < due && !self.is_set_back.load(Ordering::Relaxed) {
            self.say(format!("{} came at {:?}, due {due:?}", event.id(), clock.now()));
        }
    }

    async fn bill(&self, order: Order, context: Context, clock: Clock) -> Result<Draft, HandlerError> {
        self.sees(&context, clock, order.delay_ms, order.tenant);
        if order.number % 4 == 1 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let is_mended = self.is_mended.load(Ordering::Relaxed);
        if order.is_doomed() && !is_mended {
            return Err(HandlerError::permanent("no such card"));
        }
        if order.number.is_multiple_of(3) && context.attempt() < 3 && !is_mended {
            return Err(HandlerError::transient(CLOSED));
        }
        let nth = count(&context.storage(rooms::USERS), order.user).await?;
        let (bills, key) = (context.storage(rooms::BILLS), order.number.to_string());
        let times = bills.get_json::<Bill>(&key).await?.unwrap_or_default().times + 1;
        bills.put_json(&key, &Bill { times, nth }).await?;
        if self.plan.has(Part::Ledgers) && has_entry(order.number) {
            let version = count(&context.storage(rooms::LEDGERS), order.user).await?;
            let entry = Draft::new(Entry { order: order.number, user: order.user });
            let entry = entry.aggregate("ledger", order.user.to_string(), version);
            context.emit(entry).map_err(HandlerError::permanent)?;
        }
        let delay_ms = if order.number.is_multiple_of(5) { 90_000 } else { 0 };
        let billed = Draft::new(Billed { order: order.number, delay_ms });
        Ok(if delay_ms > 0 { billed.delay(Duration::from_millis(delay_ms)) } else { billed })
    }

    async fn archive(&self, billed: Billed, context: Context, clock: Clock) -> Result<(), HandlerError> {
        self.sees(&context, clock, billed.delay_ms, self.plan.tenant_of(billed.order));
        if billed.order % 7 == 3 && context.attempt() == 1 {
            return Err(HandlerError::transient(CLOSED));
        }
        count(&context.storage(rooms::BILLED), billed.order).await?;
        Ok(())
    }

    /// So slow that it is behind when the log has no more room.
    async fn slow(&self, order: Order, context: Context, clock: Clock) -> Result<(), HandlerError> {
        self.sees(&context, clock, order.delay_ms, order.tenant);
        tokio::time::sleep(Duration::from_secs(2)).await;
        count(&context.storage(rooms::SLOW), order.number).await?;
        Ok(())
    }

    /// Each user's orders come in their order, and none behind one that is a dead letter.
    async fn settle(&self, order: Order, context: Context, clock: Clock) -> Result<(), HandlerError> {
        self.sees(&context, clock, order.delay_ms, order.tenant);
        let is_mended = self.is_mended.load(Ordering::Relaxed);
        if is_unsettled(order.number) && !is_mended {
            return Err(HandlerError::permanent("no such account"));
        }
        if order.number % 5 == 2 && context.attempt() < 2 && !is_mended {
            return Err(HandlerError::transient(CLOSED));
        }
        let nth = count(&context.storage(rooms::SETTLERS), order.user).await?;
        let (settled, key) = (context.storage(rooms::SETTLED), order.number.to_string());
        let times = settled.get_json::<Bill>(&key).await?.unwrap_or_default().times + 1;
        settled.put_json(&key, &Bill { times, nth }).await?;
        Ok(())
    }

    /// Changes of a cart come in the order of their versions, whatever their class.
    async fn journal(&self, change: Change, context: Context, clock: Clock) -> Result<(), HandlerError> {
        self.sees(&context, clock, 0, change.tenant);
        if change.number % 6 == 1 && context.attempt() == 1 {
            return Err(HandlerError::transient(CLOSED));
        }
        let version = context.event().aggregate().map_or(0, |own| own.version);
        let (journal, key) = (context.storage(rooms::JOURNAL), change.cart.to_string());
        let before = journal.get_json::<u64>(&key).await?.unwrap_or_default();
        if version != before + 1 {
            self.say(format!("version {version} of {change:?} was handled behind version {before}, out of order"));
        }
        journal.put_json(&key, &version).await?;
        Ok(())
    }

    /// Totals come in their order, each once.
    async fn keep(&self, total: Total, context: Context, clock: Clock) -> Result<(), HandlerError> {
        self.sees(&context, clock, 0, total.tenant);
        let (totals, key) = (context.storage(rooms::TOTALS), total.user.to_string());
        let before = totals.get_json::<Total>(&key).await?.unwrap_or_default();
        if before.count + 1 != total.count || before.cents > total.cents {
            self.say(format!("{total:?} was handled after {before:?}, and is not what came in"));
        }
        totals.put_json(&key, &total).await?;
        Ok(())
    }

    async fn calm(&self, calm: Calm, context: Context, clock: Clock) -> Result<(), HandlerError> {
        self.sees(&context, clock, 0, self.plan.tenant_of(calm.order));
        let (rows, key) = (context.storage(rooms::CALM), calm.user.to_string());
        if rows.get_json::<u64>(&key).await? == Some(calm.order) {
            self.say(format!("order {} was calm twice, which is not what came in", calm.order));
        }
        rows.put_json(&key, &calm.order).await?;
        Ok(())
    }

    /// Windows of a meter come one after the other, each once.
    async fn window(&self, window: Window, context: Context, clock: Clock) -> Result<(), HandlerError> {
        self.sees(&context, clock, 0, window.tenant);
        let (windows, key) = (context.storage(rooms::WINDOWS), window.meter.to_string());
        let before = windows.get_json::<u64>(&key).await?;
        if before.is_some_and(|before| before >= window.start_ms) {
            self.say(format!("{window:?} was opened again behind {before:?}"));
        }
        windows.put_json(&key, &window.start_ms).await?;
        for number in window.readings {
            count(&context.storage(rooms::READ), number).await?;
        }
        Ok(())
    }

    async fn enter(&self, entry: Entry, context: Context, clock: Clock) -> Result<(), HandlerError> {
        self.sees(&context, clock, 0, self.plan.tenant_of(entry.order));
        count(&context.storage(rooms::ENTRIES), entry.order).await?;
        Ok(())
    }

    async fn change(&self, change: Change, context: Context, clock: Clock) -> Result<(), HandlerError> {
        self.sees(&context, clock, 0, change.tenant);
        count(&context.storage(rooms::CARTS), change.number).await?;
        Ok(())
    }

    /// A runtime over a store, with its handlers and stages.
    ///
    /// # Errors
    /// What the runtime says against it.
    pub fn open(self: &Arc<Self>, store: impl Store, now: Timestamp, id_seed: u64) -> Result<Runtime, Box<dyn Error>> {
        let plan = &self.plan;
        let builder = Builder::default().store(store).retention(plan.keeps.retention()).watchdog(false);
        let runtime = builder.clock(Clock::starting_at(now)).seed(plan.seed).id_seed(id_seed).build()?;
        self.subscribe(&runtime)?;
        self.subscribe_to_aggregates(&runtime)?;
        self.add_stages(&runtime)?;
        Ok(runtime)
    }

    fn subscribe(self: &Arc<Self>, runtime: &Runtime) -> Result<(), OnError> {
        let clock = runtime.clock();
        let bill = self.handler(move |world, order, context| async move { world.bill(order, context, clock).await });
        let bill = bill.named("bill").ordered_by_key().concurrency(4);
        runtime.on("order.placed", bill.retry(often()))?;
        let archive =
            self.handler(move |world, billed, context| async move { world.archive(billed, context, clock).await });
        runtime.on("order.billed", archive.named("archive").starting_at(Start::Earliest).retry(often()))?;
        if self.plan.may_lose() {
            let slow =
                self.handler(move |world, order, context| async move { world.slow(order, context, clock).await });
            runtime.on("order.placed", slow.named("slow").concurrency(2).retry(often()))?;
        }
        if self.plan.has(Part::Halts) {
            let settle =
                self.handler(move |world, order, context| async move { world.settle(order, context, clock).await });
            let settle = settle.named("settle").ordered_by_key().halt_key_on_dead();
            runtime.on("order.placed", settle.concurrency(3).retry(often()))?;
        }
        Ok(())
    }

    fn subscribe_to_aggregates(self: &Arc<Self>, runtime: &Runtime) -> Result<(), OnError> {
        let clock = runtime.clock();
        if self.plan.has(Part::Ledgers) {
            let entries =
                self.handler(move |world, entry, context| async move { world.enter(entry, context, clock).await });
            runtime.on("ledger.*", entries.named("entries").retry(often()))?;
        }
        if self.plan.has(Part::Carts) {
            let carts =
                self.handler(move |world, change, context| async move { world.change(change, context, clock).await });
            runtime.on("cart.changed", carts.named("carts").retry(often()))?;
        }
        if self.plan.has(Part::Strict) {
            let journal =
                self.handler(move |world, change, context| async move { world.journal(change, context, clock).await });
            let journal = journal.named("journal").strict_key_order().halt_key_on_dead();
            runtime.on("cart.changed", journal.retry(often()))?;
        }
        Ok(())
    }

    /// The stages, and who keeps what they say.
    fn add_stages(self: &Arc<Self>, runtime: &Runtime) -> Result<(), Box<dyn Error>> {
        let (clock, plan) = (runtime.clock(), &self.plan);
        if plan.has(Part::Totals) {
            let keep =
                self.handler(move |world, total, context| async move { world.keep(total, context, clock).await });
            runtime.on("order.total", keep.named("keep").ordered_by_key().retry(often()))?;
            let totals = chain().scan(Total::default(), |total: &mut Total, order: Order| {
                let Order { tenant, user, .. } = order;
                *total = Total { tenant, user, count: total.count + 1, cents: total.cents + order.cents };
            });
            runtime.stage("totals", keyed(totals).epoch(plan.epoch))?;
        }
        if plan.has(Part::Calm) {
            let calm = self.handler(move |world, calm, context| async move { world.calm(calm, context, clock).await });
            runtime.on("order.calm", calm.named("calm-keeper").ordered_by_key().retry(often()))?;
            let calm = chain().debounce(Duration::from_mins(1));
            let calm = calm.map(|order: Order| Calm { user: order.user, order: order.number });
            runtime.stage("calm", keyed(calm).epoch(plan.epoch))?;
        }
        if plan.has(Part::Windows) {
            let keeper =
                self.handler(move |world, window, context| async move { world.window(window, context, clock).await });
            runtime.on("meter.window", keeper.named("windows-keeper").ordered_by_key().retry(often()))?;
            self.add_windows(runtime)?;
        }
        Ok(())
    }

    fn add_windows(&self, runtime: &Runtime) -> Result<(), StageError> {
        let windows = chain().tumbling(WIDTH, Flow::to_vec).map(|window: Windowed<Vec<Reading>>| {
            let first = window.item.first().map_or((0, 0), |reading: &Reading| (reading.tenant, reading.meter));
            let readings = window.item.iter().map(|reading| reading.number).collect();
            Window { tenant: first.0, meter: first.1, start_ms: window.start.as_millis(), readings }
        });
        let stage = Stage::keyed(|reading: &Reading| Key::from(reading.meter), windows);
        let stage = stage.event_time(LATENESS).epoch(self.plan.epoch);
        let stage = if self.plan.is_idle_timed { stage.idle(Duration::from_secs(20)) } else { stage };
        runtime.stage("windows", stage)
    }

    /// A handler of one event that shares this world.
    fn handler<E, O, F>(
        self: &Arc<Self>,
        handle: impl Fn(Arc<Self>, E, Context) -> F + Clone + Send + Sync + 'static,
    ) -> impl Fn(E, Context) -> F + Clone + Send + Sync + 'static
    where
        F: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        let world = Arc::clone(self);
        move |event, context| handle(Arc::clone(&world), event, context)
    }
}

/// A stage over a chain, a state for each user.
fn keyed<O: millstream::operators::Operator<Order>>(
    chain: millstream::Chain<Order, O>,
) -> Stage<Order, millstream::Chain<Order, O>> {
    Stage::keyed(|order: &Order| Key::from(order.user), chain)
}

/// How handlers try again.
fn often() -> Retry {
    Retry::fixed(Duration::from_secs(7)).attempts(12)
}

/// Counts one more, and says how many that makes.
async fn count(storage: &Storage, key: impl ToString) -> Result<u64, StorageError> {
    let key = key.to_string();
    let counted = storage.get_json::<u64>(&key).await?.unwrap_or_default() + 1;
    storage.put_json(&key, &counted).await?;
    Ok(counted)
}

//! A workflow of two steps with bounded parallelism by user.
//!
//! Uploads are scanned one after the other for each user, in their order, and rendered at most two at a time for each
//! user. Somebody who uploads forty pictures at once waits for himself and for nobody else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use comfy_table::{Table, presets};
use millstream::{
    Delivery, Event, Handler, Runtime, State,
    middleware::concurrency::{KeyedLayer, Limit},
};
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "upload.received", key = "user")]
struct Received {
    user: String,
    number: u32,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "upload.scanned", key = "user")]
struct Scanned {
    user: String,
    number: u32,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "upload.rendered", key = "user")]
struct Rendered {
    user: String,
}

/// Who uploads, and how much.
const USERS: [(&str, u32); 4] = [("ada", 40), ("ben", 20), ("cleo", 10), ("dan", 5)];
/// How many renderings of one user run at once.
const RENDERS_BY_USER: usize = 2;
const STEP: Duration = Duration::from_millis(8);

/// What runs now, and the most that ever did.
#[derive(Clone, Copy, Default)]
struct Running {
    now: usize,
    most: usize,
}

impl Running {
    fn start(&mut self) {
        self.now += 1;
        self.most = self.most.max(self.now);
    }
}

/// One user's part of the board.
#[derive(Default)]
struct User {
    scans: Running,
    renders: Running,
    /// The numbers of the uploads, in the order in which they were scanned.
    scanned: Vec<u32>,
    rendered: u32,
}

#[derive(Default)]
struct Users {
    by_name: BTreeMap<String, User>,
    all: Running,
}

/// What everybody looks at.
#[derive(Clone, Default)]
struct Board(Arc<Mutex<Users>>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, Users> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user<T>(&self, name: &str, change: impl FnOnce(&mut User) -> T) -> T {
        change(self.lock().by_name.entry(name.to_owned()).or_default())
    }
}

async fn scan(State(board): State<Board>, upload: Received) -> Scanned {
    board.user(&upload.user, |user| user.scans.start());
    tokio::time::sleep(STEP).await;
    board.user(&upload.user, |user| {
        user.scans.now -= 1;
        user.scanned.push(upload.number);
    });
    Scanned { user: upload.user, number: upload.number }
}

async fn render(State(board): State<Board>, upload: Scanned) -> Rendered {
    board.user(&upload.user, |user| user.renders.start());
    board.lock().all.start();
    // Every fifth takes long.
    tokio::time::sleep(if upload.number.is_multiple_of(5) { 4 * STEP } else { STEP }).await;
    board.lock().all.now -= 1;
    board.user(&upload.user, |user| user.renders.now -= 1);
    Rendered { user: upload.user }
}

async fn summarise(State(board): State<Board>, upload: Rendered) {
    board.user(&upload.user, |user| user.rendered += 1);
}

pub(crate) async fn run() -> Result<String> {
    let board = Board::default();
    let runtime = Runtime::builder().state(board.clone()).build()?;
    // The engine's own order by key: one at a time, and a key that waits holds no slot.
    runtime.on("upload.received", scan.ordered_by_key())?;
    // More than one at a time is the layer's: which user must wait is known with the delivery.
    let by_user = |delivery: &Delivery| delivery.event().key().map(ToString::to_string);
    let limit = KeyedLayer::new(Limit::new(RENDERS_BY_USER), by_user)?;
    runtime.on("upload.scanned", render.layer(limit))?;
    runtime.on("upload.rendered", summarise)?;

    for (user, uploads) in USERS {
        runtime.emit_all((0..uploads).map(|number| Received { user: user.to_owned(), number }))?;
    }
    let report = runtime.process().await?;

    let users = board.lock();
    for (name, uploads) in USERS {
        let user = &users.by_name[name];
        assert_eq!((user.scans.most, user.rendered), (1, uploads));
        assert!(user.scanned.iter().copied().eq(0..uploads), "in the order of upload");
        assert!(user.renders.most <= RENDERS_BY_USER);
    }
    assert!(users.all.most > RENDERS_BY_USER, "users do not wait for each other");
    let uploads: u32 = USERS.iter().map(|(_, uploads)| uploads).sum();
    assert_eq!((report.handled, report.dead), (3 * u64::from(uploads), 0));
    println!("{}", table(&users));
    let (people, most) = (USERS.len(), users.all.most);
    Ok(format!(
        "{uploads} uploads of {people} users, at most {most} rendered at once and {RENDERS_BY_USER} of one user"
    ))
}

fn table(users: &Users) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["user", "uploads", "scanned at once", "rendered at once"]);
    for (name, user) in &users.by_name {
        let figures = [user.rendered.to_string(), user.scans.most.to_string(), user.renders.most.to_string()];
        table.add_row(std::iter::once(name.clone()).chain(figures));
    }
    table
}

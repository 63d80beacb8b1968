//! Files made by the engine, and the binary run on them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    future::Future,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use millstream::{Context, Draft, Handler, HandlerError, Priority, Runtime, Start, Timestamp, store::Redb};
use serde_json::{Value, json};

/// What the binary said.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary.
pub(crate) fn millstream<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    finish(Command::new(env!("CARGO_BIN_EXE_millstream")).args(args), "")
}

/// Runs the binary as it was prepared, with a text on its standard input.
pub(crate) fn finish(command: &mut Command, input: &str) -> Ran {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ran {
    /// It did what it was asked to.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Its lines as JSON; all of them must be.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
            .collect()
    }

    /// All lines but the last, and the last.
    #[track_caller]
    pub(crate) fn split(&self) -> (Vec<Value>, Value) {
        let mut lines = self.lines();
        let last = lines.pop().unwrap();
        (lines, last)
    }

    /// It refused: with 1, a message, and an error object. Gives kind and message.
    #[track_caller]
    pub(crate) fn refusal(&self) -> (String, String) {
        assert_eq!(self.code, Some(1), "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.starts_with("error: ") && !self.stderr.contains("panicked"), "{}", self.stderr);
        let error = &self.split().1["error"];
        let message = error["message"].as_str().unwrap().to_owned();
        assert_eq!(self.stderr.trim_end(), format!("error: {message}"));
        (error["kind"].as_str().unwrap().to_owned(), message)
    }
}

/// A folder that is gone at the end of the test, and a file in it.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Runs what needs tokio.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// A runtime on a file.
pub(crate) fn open(path: &Path) -> Runtime {
    Runtime::builder().store(Redb::open(path).unwrap()).build().unwrap()
}

/// Ends a runtime and closes its file.
pub(crate) async fn close(runtime: Runtime) {
    runtime.shutdown(Duration::from_secs(10)).await.unwrap();
}

/// A handler that fails at once for the orders that it does not like.
pub(crate) fn failing(dislikes: impl Fn(u64) -> bool + Clone + Send + Sync + 'static) -> impl Handler<(Context,)> {
    move |context: Context| {
        let dislikes = dislikes.clone();
        async move {
            let number = context.event().data().to_json().ok().and_then(|data| data["id"].as_u64());
            if dislikes(number.unwrap_or_default()) {
                return Err(HandlerError::permanent(format!("no order {}", number.unwrap_or_default())));
            }
            Ok(())
        }
    }
}

pub(crate) fn order(id: u64) -> Draft {
    Draft::json("order.placed", json!({ "id": id })).key(format!("k{}", id % 3))
}

/// Ten orders of which `bank` has refused 3 and 6, and which nobody else has seen; one event of every kind beside them, one
/// of which is delayed for a hundred years.
pub(crate) fn fill(path: &Path) {
    block_on(async {
        let runtime = open(path);
        runtime.on("order.*", failing(|id| id == 3 || id == 6).named("bank").starting_at(Start::Earliest)).unwrap();
        // Begins at the end of the log, which a mark in it says.
        runtime.on("nothing.>", failing(|_| true).named("late")).unwrap();
        for id in 0..10 {
            runtime.emit(order(id)).unwrap().await.unwrap();
        }
        let rare = Draft::json("stock.größe", json!({"text": "ä\n", "exact": 0.1}))
            .version(3)
            .tenant("acme")
            .priority(Priority::Critical)
            .time(Timestamp::from_secs(1_000_000_000))
            .actor("ann")
            .source("our shop")
            .aggregate("order", "7", 1)
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .header("X-Other", "1");
        runtime.emit(rare).unwrap().await.unwrap();
        let late = Draft::json("order.late", json!(null)).delay(Duration::from_hours(100 * 365 * 24));
        runtime.emit(late).unwrap().await.unwrap();
        runtime.process().await.unwrap();
        assert_eq!(runtime.dead_letters(&millstream::DeadLetterFilter::all()).len(), 2);
        close(runtime).await;
    });
}

use std::{cell::Cell, rc::Rc};

use millstream::{Json, debug_handler};

struct NotAnEvent;

#[debug_handler]
async fn takes(_: Json, _: NotAnEvent) {}

#[debug_handler]
async fn returns(_: Json) -> u64 {
    7
}

#[debug_handler]
async fn stays(_: Json) {
    let here = Rc::new(Cell::new(1));
    std::future::ready(()).await;
    here.set(2);
}

#[debug_handler]
fn blocks(_: Json) {}

#[debug_handler]
async fn generic<T>(_: T) {}

struct Service;

impl Service {
    async fn new() -> Self {
        Self
    }
}

#[debug_handler(strict)]
async fn fine(Json(_): Json) -> Result<Option<millstream::Draft>, std::io::Error> {
    let _ = Service::new().await;
    Ok(None)
}

fn main() {}

use millstream::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "order placed", key = "nothing", priority = "urgent")]
struct OrderPlaced {
    id: u64,
}

fn main() {}

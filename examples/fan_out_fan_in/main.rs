//! Fan out, fan in: what every user of an event runtime starts with.
//!
//! - `sensors`: three sensors at different rates into one dashboard that is drawn in place.
//! - `systems`: events of several systems, merged, filtered, and sent on in batches.
//! - `users`: a workflow of two steps with bounded parallelism by user.
//!
//! `cargo run --release --example fan_out_fan_in [-- sensors|systems|users]`; without a word, all three.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

mod screen;
mod sensors;
mod systems;
mod users;

use anyhow::Result;
use clap::{Parser, ValueEnum};

/// Three uses of streams and handlers.
#[derive(Parser)]
struct Arguments {
    /// Which one; all if not given.
    use_case: Option<UseCase>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum UseCase {
    /// Several sensors at different rates into one dashboard.
    Sensors,
    /// Events of several systems merged, filtered and batched.
    Systems,
    /// A workflow with bounded parallelism by user.
    Users,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let chosen = Arguments::parse().use_case;
    for use_case in UseCase::value_variants() {
        if chosen.is_none_or(|chosen| chosen == *use_case) {
            match use_case {
                UseCase::Sensors => println!("sensors: {}\n", sensors::run().await?),
                UseCase::Systems => println!("systems: {}\n", systems::run().await?),
                UseCase::Users => println!("users: {}\n", users::run().await?),
            }
        }
    }
    Ok(())
}

//! The command line of the simulator: see the crate's documentation.
#![expect(clippy::print_stdout, reason = "a tool talks to whoever runs it")]

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode, thread};

use clap::{Args, Parser, Subcommand, ValueEnum};
use millstream_sim::{child, images::Place};

mod commands;
mod report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Crashes, broken disks and kills for millstream's store.
///
/// Without a command it looks at crash images. Exits with 1 where anything is wrong.
#[derive(Debug, Parser)]
#[command(name = "millstream-sim", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    images: Images,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fails each request to the disk, in each way, once and for good.
    Io(Io),
    /// Flips bits, one at a time.
    Flips(Flips),
    /// Kills a process at full load.
    Kill(Kill),
    /// Shows that planted bugs are caught.
    Planted(PlantedBugs),
    /// What is killed.
    #[command(hide = true)]
    Child(Child),
}

/// What all commands take.
#[derive(Clone, Copy, Debug, Args)]
struct Common {
    /// What decides all else.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many threads work [default: one a core].
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// The figures as JSON, in the last line.
    #[arg(long)]
    json: bool,
}

/// What is driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Which {
    /// The store by itself.
    Store,
    /// The whole engine over the store.
    Engine,
    /// The one after the other.
    #[default]
    Both,
}

#[derive(Debug, Args)]
struct Images {
    /// How many images to look at, of each level.
    #[arg(long = "images", value_name = "IMAGES", default_value_t = 20_000)]
    count: u64,
    /// The whole engine, the store by itself, or both.
    #[arg(long, value_enum, default_value_t)]
    level: Which,
    /// Only this image of one level, named as a violation names it.
    #[arg(long, value_name = "RUN.STEP.LANDING")]
    only: Option<Place>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Io {
    /// How many workloads, from this seed on.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The whole engine, the store by itself, or both.
    #[arg(long, value_enum, default_value_t)]
    level: Which,
    /// Of how many failures one is tried.
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    stride: NonZeroUsize,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Flips {
    /// How many bits to flip.
    #[arg(long, default_value_t = 3_000)]
    count: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Kill {
    /// How often to kill.
    #[arg(long, default_value_t = 20)]
    cycles: u32,
    /// How many emit side by side.
    #[arg(long, default_value_t = 256)]
    emitters: u32,
    /// Where the file is made [default: a folder that is removed].
    #[arg(long)]
    folder: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct PlantedBugs {
    /// How many images, flips or failures each bug is looked for in at most.
    #[arg(long, default_value_t = 2_000)]
    tries: u64,
    /// Only this bug, named as the figures name it.
    #[arg(long, value_name = "BUG")]
    only: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Child {
    #[arg(long)]
    file: PathBuf,
    #[arg(long)]
    cycle: u32,
    #[arg(long)]
    emitters: u32,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        None => commands::look_at_images(&arguments.images),
        Some(Command::Io(io)) => commands::break_disks(&io),
        Some(Command::Flips(flips)) => commands::flip_bits(&flips),
        Some(Command::Kill(kill)) => commands::kill_processes(&kill),
        Some(Command::Planted(planted)) => commands::plant_bugs(&planted),
        Some(Command::Child(Child { file, cycle, emitters })) => {
            child::run(&child::Settings { file, cycle, emitters }).map(|()| true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Which {
    fn levels(self) -> &'static [Self] {
        match self {
            Self::Store => &[Self::Store],
            Self::Engine => &[Self::Engine],
            Self::Both => &[Self::Engine, Self::Store],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Engine => "engine",
            Self::Both => "both",
        }
    }
}

impl Common {
    fn threads(&self) -> usize {
        self.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
    }

    fn report(&self, what: &'static str, length: u64) -> report::Report {
        // The store contains the panics of redb on a damaged file. One that gets out is a violation, and told as such.
        std::panic::set_hook(Box::new(|_| {}));
        report::Report::new(what, length, self.seed, self.json)
    }
}

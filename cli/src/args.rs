//! What the command line says.

use std::{num::NonZeroU32, path::PathBuf};

use clap::{
    ArgAction, Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use millstream::{DeadLetterFilter, Death, EventId, Pattern, Priority, Timestamp, archive::LogFilter, store::Seq};

use crate::words;

const EVERYWHERE: &str = "Everywhere";
const EVENTS: &str = "Which events (all of these must agree)";
const LETTERS: &str = "Which dead letters (all of these must agree)";

/// The words that clap finds for it are all options in one, before the file.
const CHOOSE_TO_REPLAY: &str = "\
millstream dlq replay [OPTIONS] <FILE> <NUMBER>...
       millstream dlq replay [OPTIONS] <FILE> --all
       millstream dlq replay [OPTIONS] <FILE> --subscription <NAME>, or another filter";
const CHOOSE_TO_PURGE: &str = "\
millstream dlq purge [OPTIONS] <FILE> <NUMBER>...
       millstream dlq purge [OPTIONS] <FILE> --all
       millstream dlq purge [OPTIONS] <FILE> --subscription <NAME>, or another filter";

const EXAMPLES: &str = "\
Examples:
  millstream inspect events.redb
  millstream log events.redb --event 'order.>' --since 2026-01-31 --limit 20
  millstream dlq list events.redb --subscription bank
  millstream dlq replay events.redb --subscription bank --rate 10
  millstream export events.redb | millstream import copy.redb

Exit codes: 0 done; 1 not done, or damage was found; 2 the command line is wrong";

/// Looks into the file of a durable millstream runtime, mends it, and takes events out and in.
///
/// For a file that no runtime has open. Commands that only look never change it.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, max_term_width = 100, after_long_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Print one JSON object a line; the last line of standard output is one as well, errors included
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// Print no progress and no closing line
    #[arg(long, short, global = true, help_heading = EVERYWHERE)]
    pub(crate) quiet: bool,
    /// The partition whose log and rows are meant; `inspect`, `verify`, `backup` and `compact` take the whole file
    #[arg(long, global = true, default_value_t = 0, value_name = "NUMBER", help_heading = EVERYWHERE)]
    pub(crate) partition: u32,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What is in a file: its format, its tables, its logs
    Inspect {
        /// The file of a durable runtime
        file: PathBuf,
    },
    /// The events of the log, in their order
    Log(Log),
    /// How far each subscription and stage is, the states of a stage, or the rows of a table
    State(State),
    /// Dead letters: what was given up
    #[command(subcommand)]
    Dlq(Dlq),
    /// Read every byte and say what is damaged; exits with 1 where anything is
    Verify {
        /// The file of a durable runtime
        file: PathBuf,
    },
    /// Write events as CloudEvents 1.0, one a line
    Export(Export),
    /// Take in CloudEvents 1.0, one a line; those that are there already are passed over
    Import(Import),
    /// Copy a file to one that is not there yet, without gaps, and verify it on the way
    Backup {
        /// The file of a durable runtime
        file: PathBuf,
        /// The copy
        to: PathBuf,
    },
    /// Give back to the system what a file does not need any more
    Compact {
        /// The file of a durable runtime
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The file of a durable runtime
    pub(crate) file: PathBuf,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = usize::MAX, hide_default_value = true)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) filter: EventFilter,
}

#[derive(Debug, Args)]
pub(crate) struct EventFilter {
    /// Read what can still be read of a damaged file: it is not checked as a whole, each event is all the same
    #[arg(long)]
    pub(crate) damaged: bool,
    /// Of this class; may be given several times
    #[arg(long, help_heading = EVENTS)]
    class: Vec<Class>,
    /// Whose name a pattern selects, such as `order.*` or `order.>`
    #[arg(long, help_heading = EVENTS, value_name = "PATTERN")]
    event: Option<Pattern>,
    /// Of this time or later: 2026-01-31T12:00:00Z, or a date
    #[arg(long, help_heading = EVENTS, value_name = "TIME", value_parser = words::parse_time)]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, help_heading = EVENTS, value_name = "TIME", value_parser = words::parse_time)]
    until: Option<Timestamp>,
    /// With this key
    #[arg(long, help_heading = EVENTS)]
    key: Option<String>,
    /// Of this tenant
    #[arg(long, help_heading = EVENTS)]
    tenant: Option<String>,
    /// From this place of the log on; what was trimmed from it is not among them then
    #[arg(long, help_heading = EVENTS, value_name = "PLACE", default_value_t = 0, hide_default_value = true)]
    from: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Class {
    Critical,
    High,
    Normal,
    Low,
}

#[derive(Debug, Args)]
pub(crate) struct State {
    /// The file of a durable runtime
    pub(crate) file: PathBuf,
    /// The table whose rows to print; `inspect` names them all
    pub(crate) table: Option<String>,
    /// Print the states of this operator stage's keys
    #[arg(long, value_name = "NAME", conflicts_with = "table")]
    pub(crate) stage: Option<String>,
    /// Rows whose name or key begins with this text; with an event, that is its key, and of an aggregate, its id
    #[arg(long, requires = "table", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// At most so many rows or states
    #[arg(long, value_name = "NUMBER", default_value_t = usize::MAX, hide_default_value = true)]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dlq {
    /// The dead letters, oldest first
    List(Letters),
    /// One dead letter with its event and all that went wrong
    Show {
        /// The file of a durable runtime
        file: PathBuf,
        /// Its number, as `list` names it
        number: u64,
    },
    /// Let dead letters be delivered again once a runtime opens the file
    #[command(override_usage = CHOOSE_TO_REPLAY)]
    Replay(Replay),
    /// Forget dead letters for good
    #[command(override_usage = CHOOSE_TO_PURGE)]
    Purge(ChosenLetters),
}

#[derive(Debug, Args)]
pub(crate) struct Letters {
    /// The file of a durable runtime
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) filter: LetterFilter,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// At most so many, the oldest first
    #[arg(long, value_name = "NUMBER", default_value_t = usize::MAX, hide_default_value = true)]
    pub(crate) limit: usize,
    /// So many a second; default: all at once
    #[arg(long, value_name = "NUMBER")]
    pub(crate) rate: Option<NonZeroU32>,
    #[command(flatten)]
    pub(crate) letters: ChosenLetters,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("chosen").required(true).multiple(true)))]
pub(crate) struct ChosenLetters {
    /// The file of a durable runtime
    pub(crate) file: PathBuf,
    /// Those of these numbers, as `list` names them; each must be there
    #[arg(group = "chosen")]
    pub(crate) number: Vec<u64>,
    /// All of them
    #[arg(long, group = "chosen", action = ArgAction::SetTrue)]
    pub(crate) all: bool,
    /// Change a file that is damaged, too; copy it first. `purge` then removes damaged letters that are named by their numbers
    #[arg(long)]
    pub(crate) damaged: bool,
    #[command(flatten)]
    pub(crate) filter: LetterFilter,
}

#[derive(Debug, Args)]
pub(crate) struct LetterFilter {
    /// Of this subscription
    #[arg(long, help_heading = LETTERS, value_name = "NAME", group = "chosen")]
    subscription: Option<String>,
    /// Whose event's name a pattern selects
    #[arg(long, help_heading = LETTERS, value_name = "PATTERN", group = "chosen")]
    event: Option<Pattern>,
    /// Of one event
    #[arg(long, help_heading = LETTERS, group = "chosen")]
    id: Option<EventId>,
    /// Whose event has this key
    #[arg(long, help_heading = LETTERS, group = "chosen")]
    key: Option<String>,
    /// Of this tenant
    #[arg(long, help_heading = LETTERS, group = "chosen")]
    tenant: Option<String>,
    /// That died of this
    #[arg(long, help_heading = LETTERS, value_name = "REASON", value_parser = PossibleValuesParser::new(DEATHS).try_map(|text| death(&text)), group = "chosen")]
    death: Option<Death>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file of a durable runtime
    pub(crate) file: PathBuf,
    /// Where to; `-` is standard output
    #[arg(default_value = "-")]
    pub(crate) to: PathBuf,
    /// Write over what is there
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) filter: EventFilter,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file to add to; it is made where there is none
    pub(crate) file: PathBuf,
    /// Where from; `-` is standard input
    #[arg(default_value = "-")]
    pub(crate) from: PathBuf,
}

impl EventFilter {
    pub(crate) fn build(&self) -> LogFilter {
        let mut filter = LogFilter::all().from(Seq(self.from));
        for class in &self.class {
            filter = filter.priority((*class).into());
        }
        filter = self.event.clone().into_iter().fold(filter, LogFilter::event);
        filter = self.since.into_iter().fold(filter, LogFilter::since);
        filter = self.until.into_iter().fold(filter, LogFilter::until);
        filter = self.key.as_deref().into_iter().fold(filter, LogFilter::key);
        self.tenant.as_deref().into_iter().fold(filter, LogFilter::tenant)
    }
}

impl LetterFilter {
    pub(crate) fn build(&self) -> DeadLetterFilter {
        let mut filter = DeadLetterFilter::all();
        filter = self.subscription.as_deref().into_iter().fold(filter, DeadLetterFilter::subscription);
        filter = self.event.clone().into_iter().fold(filter, DeadLetterFilter::event);
        filter = self.id.into_iter().fold(filter, DeadLetterFilter::id);
        filter = self.key.as_deref().into_iter().fold(filter, DeadLetterFilter::key);
        filter = self.tenant.as_deref().into_iter().fold(filter, DeadLetterFilter::tenant);
        self.death.into_iter().fold(filter, DeadLetterFilter::death)
    }
}

impl ChosenLetters {
    pub(crate) fn build(&self) -> DeadLetterFilter {
        let filter = self.filter.build();
        if self.number.is_empty() { filter } else { filter.numbers(self.number.iter().copied()) }
    }
}

impl From<Class> for Priority {
    fn from(class: Class) -> Self {
        match class {
            Class::Critical => Self::Critical,
            Class::High => Self::High,
            Class::Normal => Self::Normal,
            Class::Low => Self::Low,
        }
    }
}

/// What dead letters die of.
const DEATHS: [&str; 10] =
    ["permanent", "exhausted", "retry_quota", "saturated", "unrouted", "late", "parked", "halted", "crashed", "loop"];

fn death(text: &str) -> Result<Death, serde_json::Error> {
    serde_json::from_value(text.into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_has_help() {
        fn all_have(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(all_have);
        }
        let mut command = Cli::command();
        command.build();
        all_have(&command);
    }

    #[test]
    fn every_reason_of_a_death_is_known() {
        assert!(DEATHS.iter().all(|name| death(name).is_ok_and(|death| death.to_string() == *name)));
        // serde names all that there are.
        let named = death("eternal").unwrap_err().to_string();
        assert_eq!(named.matches('`').count() / 2 - 1, DEATHS.len(), "{named}");
    }
}

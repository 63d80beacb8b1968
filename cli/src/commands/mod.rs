//! The commands, a file each.

mod copy;
mod dlq;
mod export;
mod import;
mod inspect;
mod log;
mod state;
mod verify;

use std::process::ExitCode;

use tokio::runtime::Builder;

use crate::{
    Verdict,
    args::{Cli, Command, Dlq},
    failure::Failure,
    output::Output,
};

/// Does what the command line says.
pub(crate) fn run(cli: &Cli, out: &mut Output) -> Verdict {
    let runtime = Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Failure::new("io", format!("no runtime: {error}")))?;
    let partition = cli.partition;
    runtime.block_on(async {
        match &cli.command {
            Command::Inspect { file } => inspect::run(file, out).await?,
            Command::Log(args) => log::run(args, partition, out).await?,
            Command::State(args) => return state::run(args, partition, out).await,
            Command::Dlq(Dlq::List(args)) => return dlq::list(args, partition, out).await,
            Command::Dlq(Dlq::Show { file, number }) => dlq::show(file, *number, partition, out).await?,
            Command::Dlq(Dlq::Replay(args)) => return dlq::replay(args, partition, out).await,
            Command::Dlq(Dlq::Purge(args)) => return dlq::purge(args, partition, out).await,
            Command::Verify { file } => return verify::run(file, out).await,
            Command::Export(args) => export::run(args, partition, out).await?,
            Command::Import(args) => import::run(args, partition, out).await?,
            Command::Backup { file, to } => copy::backup(file, to, out)?,
            Command::Compact { file } => copy::compact(file, out).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

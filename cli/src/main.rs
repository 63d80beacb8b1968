//! `millstream`: looks into the file of a durable runtime, mends it, and takes events out and in.
//!
//! For a file that no runtime has open. Commands that only look never change it, by not one byte.

mod args;
mod commands;
mod failure;
mod files;
mod output;
mod times;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

use self::{args::Cli, failure::Failure, output::Output};

/// What a command has found: all well, or something that whoever called it must look at.
type Verdict = Result<ExitCode, Failure>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Output::new(cli.json, cli.quiet);
    let verdict = commands::run(&cli, &mut out).and_then(|code| out.flush().map(|()| code));
    match verdict {
        Ok(code) => code,
        // Whoever read our output has seen enough: `millstream log FILE | head`.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // Where even this cannot be written, the exit code is what is left.
            let _ = out.fail(&failure);
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            ExitCode::FAILURE
        }
    }
}

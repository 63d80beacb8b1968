//! `millstream`: looks into the file of a durable runtime, mends it, and takes events out and in.
//!
//! For a file that no runtime has open. Commands that only look never change it, by not one byte.

mod args;
mod commands;
mod failure;
mod files;
mod output;
mod words;

use std::{
    io::Write as _,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use clap::Parser as _;

use self::{args::Cli, failure::Failure, output::Output};

/// What a command has found: all well, or something that whoever called it must look at.
type Verdict = Result<ExitCode, Failure>;

/// The last panic, whoever contained it.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let mut out = Output::new(cli.json, cli.quiet);
    // redb panics where a file's structure is damaged. The store contains that and says what is damaged, so nobody else has
    // to hear of it.
    panic::set_hook(Box::new(|panic| {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.to_string());
    }));
    let ran = panic::catch_unwind(AssertUnwindSafe(|| commands::run(&cli, &mut out)));
    let verdict = ran.unwrap_or_else(|_| {
        let panic = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        Err(Failure::new("bug", format!("this is a mistake in millstream, please report it: {panic}")))
    });
    let verdict = verdict.and_then(|code| out.flush().map(|()| code));
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

/// A command line that is none, or asks for help.
fn refuse(error: &clap::Error) -> ExitCode {
    // Where even this cannot be written, the exit code is what is left.
    let _ = error.print();
    let is_json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if is_json && error.use_stderr() {
        let text = error.render().to_string();
        let what = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        let _ = Output::new(true, true).fail(&Failure::new("usage", what));
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

//! Runs the RxJS vectors: `tests/vectors/README.md` has their format. Another folder: `MILLSTREAM_VECTORS=dir`.
#![expect(clippy::print_stdout, clippy::panic, reason = "a runner reports; a case of an unknown function fails")]

mod rx;

use std::{
    env, fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rx::{
    case::{Case, Timeline},
    chains, flows,
};

#[derive(Clone, Copy, Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn count(&mut self, passes: bool) {
        *(if passes { &mut self.passed } else { &mut self.failed }) += 1;
    }

    fn all(self) -> usize {
        self.passed + self.failed
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The folder that `MILLSTREAM_VECTORS` names, from here or from the workspace's root, where cargo was called.
fn folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(named) = env::var_os("MILLSTREAM_VECTORS").map(PathBuf::from) else {
        return package.join("tests/vectors");
    };
    let root = package.parent().map(|root| root.join(&named)).filter(|path| path.is_dir());
    root.filter(|_| !named.is_dir()).unwrap_or(named)
}

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).expect("the folder of the vectors");
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|ext| ext == "jsonl")).collect();
    files.sort();
    files
}

fn fails(case: &Case, how: &str, seen: &[Timeline]) {
    println!("  {} {how}: expected {:?}, or {:?}, saw {seen:?}", case.id, case.expect, case.alt);
}

/// Through flows; an operator that is not known fails.
fn as_streams(case: &Case) -> bool {
    let Ok(Some(variants)) = catch_unwind(|| flows::run(case)) else {
        println!("  {}: a panic, or the operator {} is unknown", case.id, case.op);
        return false;
    };
    let wrong = variants.iter().find(|seen| !case.passes(seen));
    if let Some(seen) = wrong {
        fails(case, "as a stream", seen);
    }
    wrong.is_none()
}

/// Through a chain, where the operator is pure.
fn as_chain(case: &Case) -> Option<bool> {
    let seen = catch_unwind(|| chains::run(case)).unwrap_or_else(|_| Some(Vec::new()))?;
    let passes = case.passes(&seen);
    if !passes {
        fails(case, "as a chain", &seen);
    }
    Some(passes)
}

fn main() -> ExitCode {
    let (mut streams, mut chained) = (Tally::default(), Tally::default());
    for file in files() {
        let text = fs::read_to_string(&file).expect("a file of vectors");
        let (mut here, mut chains_here) = (Tally::default(), Tally::default());
        for case in text.lines().filter(|line| !line.trim().is_empty()).map(Case::parse) {
            here.count(as_streams(&case));
            if let Some(passes) = as_chain(&case) {
                chains_here.count(passes);
            }
        }
        let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        println!("{name}: {} of {}", here.passed, here.all());
        streams.add(here);
        chained.add(chains_here);
    }
    println!("chains, without a stream or a clock: {} passed, {} failed", chained.passed, chained.failed);
    // Every operator of the vectors is here, with errors too: there is nothing to skip.
    println!("vectors: {} passed, {} failed, 0 skipped", streams.passed, streams.failed);
    if streams.failed + chained.failed == 0 && streams.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

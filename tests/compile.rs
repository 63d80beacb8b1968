//! What the compiler says about the mistakes that everybody makes once.

use std::process::Command;

/// Compilers word their errors anew: the answers kept here are those of the toolchain that CI runs.
const WORDED_BY: &str = "rustc 1.95.";

#[test]
fn mistakes_are_explained() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output().expect("cargo runs rustc, so it is there");
    let version = String::from_utf8_lossy(&version.stdout);
    if version.starts_with(WORDED_BY) {
        trybuild::TestCases::new().compile_fail("tests/compile/*.rs");
    } else {
        eprintln!("skipped: the answers are those of {WORDED_BY}x, this is {version}");
    }
}

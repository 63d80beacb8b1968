//! The crash simulator and the kill harness of millstream: what was acknowledged must be there, and what is owed must be done,
//! whatever happens to the machine, the disk or the process.
//!
//! | command | what is done | what must hold |
//! | --- | --- | --- |
//! | `-- --images N --seed S` | a workload on a simulated disk, the machine stopped at steps of it | nothing acknowledged is lost, nothing is there by half or twice, work goes on |
//! | `-- io` | each request to the disk fails, in each way, once and for good | it is survived or reported, and then the same |
//! | `-- flips --count N` | one bit of a closed file is not what was written | it is detected, or nobody misses it |
//! | `-- kill --cycles N` | a process with a whole durable runtime at full load is killed with SIGKILL | each acknowledged emit is handled once, in order by key, and counted once by a stage |
//! | `-- planted` | bugs are put around the real store, and between the engine and its store | each is caught |
//!
//! All are run by `cargo run --release -p millstream-sim`, take `--seed`, and `--json` for the figures in the last line.
//! They exit with 1 where anything is wrong.
//!
//! # Two levels
//! Images and failures are of two [levels](level): the [whole engine](engine), a runtime with handlers and stages; and the
//! store by itself, whose images cost a tenth and which can be driven into corners that the engine avoids. `--images N` looks
//! at N of each; `--level engine` or `--level store` at those of one.
//!
//! # How an image of the store comes about
//! [`drive`] hands batches of an [`author`] to a store whose file is a [`disk`] in memory, and writes down in a [`history`]
//! what was handed over and what was acknowledged, and when, by the steps of the disk. The same seed makes the same
//! history and the same steps, to the last byte. At each step [`crash`] makes what the machine leaves if it stops there:
//! what was synced, and any part of what was not, torn at sectors. [`examine`] opens it, reads it whole ([`found`]), holds
//! it to the history ([`check`]), and goes on working. A fifth of the images crash again while they are opened.
//!
//! # How an image of the engine comes about
//! The same, but what is driven is a runtime through one to three [lives](engine::life), what is written down is a
//! [chronicle](engine::chronicle) of what users were told, and an image is looked at by letting a new runtime do all that is
//! owed until nothing is due any more ([`engine::audit`], [`engine::check`]). Images are taken at one of 160 steps, and where
//! somebody was just told that something is safe. Time is virtual.
//!
//! # What it does not know
//! Sectors of 512 bytes are written whole or not at all. A disk that breaks the promise of a sync is beyond what a store can
//! survive; it can be simulated, and is noticed. What a failed sync has lost may be read as long as the machine runs, and nobody who opens the file anew can
//! know of it: such a store is taken to read the disk, not the system's cache. A process that is killed leaves what it wrote
//! to the system's cache, so [`kill`] says nothing of syncs; images do. The engine lives on one thread here, in virtual time, and its
//! store commits while it stands still. What was written may be seen before those who wrote it are told, which a seed repeats;
//! all other races between threads are for [`kill`], whose moments no seed repeats.

pub mod author;
pub mod bugs;
pub mod check;
pub mod child;
pub mod crash;
pub mod disk;
pub mod drive;
pub mod engine;
pub mod examine;
pub mod flips;
pub mod found;
pub mod history;
pub mod image;
pub mod images;
pub mod io;
pub mod kill;
pub mod ledger;
pub mod level;
pub mod load;
pub mod planted;
pub mod pool;
pub mod real;
pub mod unseen;
pub mod wait;

//! What each command does: sets the work up, shows how far it is, and says what came of it.

use std::env;

use millstream_sim::{
    bugs::Bug,
    drive::Opens,
    flips, images, io, kill,
    planted::{self, look_for},
    real::Real,
};

use crate::{Common, Failure, Flips, Images, Io, Kill, PlantedBugs};

/// How to run the simulator.
const RUN: &str = "cargo run --release -p millstream-sim --";

pub(crate) fn look_at_images(arguments: &Images) -> Result<bool, Failure> {
    let Common { seed, .. } = arguments.common;
    let opens = |run| Box::new(Real::of(seed, run)) as Box<dyn Opens>;
    let (report, tally) = if let Some(place) = arguments.only {
        (arguments.common.report("image", 1), images::repeat(seed, place, &opens)?)
    } else {
        let report = arguments.common.report("images", arguments.count);
        let settings = images::Settings { images: arguments.count, seed, threads: arguments.common.threads() };
        let tally = images::run(settings, &opens, &|count| report.seen(count))?;
        (report, tally)
    };
    let wrong = tally.violations.iter().map(|violation| {
        let place = violation.place.map_or_else(|| format!("{}.0.0", violation.run), |place| place.to_string());
        format!("{}; again with: {RUN} --seed {seed} --only {place}", violation.what)
    });
    Ok(report.end(tally.json(), wrong))
}

pub(crate) fn break_disks(arguments: &Io) -> Result<bool, Failure> {
    let opens = Real::default();
    let seeds = arguments.common.seed..arguments.common.seed + arguments.seeds;
    let points: Vec<_> = seeds.map(|seed| Ok((seed, io::points(seed, &opens)?))).collect::<Result<_, Failure>>()?;
    let length = points.iter().map(|(_, points)| points.len() as u64).sum();
    let report = arguments.common.report("failures of the disk", length);
    let mut tally = io::Tally::default();
    for (seed, points) in points {
        let settings = io::Settings { seed, threads: arguments.common.threads(), stride: 1 };
        tally.add(io::run(settings, &opens, &points, &|count| report.seen(count))?);
    }
    let wrong = tally.violations.iter().map(|(point, what)| format!("{what}; at {point:?}"));
    Ok(report.end(tally.json(), wrong))
}

pub(crate) fn flip_bits(arguments: &Flips) -> Result<bool, Failure> {
    let Common { seed, .. } = arguments.common;
    let report = arguments.common.report("flipped bits", arguments.count);
    let settings = flips::Settings { count: arguments.count, seed, threads: arguments.common.threads() };
    let flip = |image: &mut millstream_sim::image::Image, at, bit| image.flip(at, bit);
    let tally = flips::run(settings, &|file| Box::new(Real::of(seed, file)), &flip, &|count| report.seen(count))?;
    let wrong =
        tally.violations.iter().map(|(file, at, bit, what)| format!("{what}; file {file}, bit {bit} of byte {at}"));
    Ok(report.end(tally.json(), wrong))
}

pub(crate) fn kill_processes(arguments: &Kill) -> Result<bool, Failure> {
    let mut folder = tempfile::Builder::new()
        .prefix("millstream-kill-")
        .tempdir_in(arguments.folder.clone().unwrap_or_else(env::temp_dir))?;
    let settings = kill::Settings {
        program: env::current_exe()?,
        file: folder.path().join("events.redb"),
        cycles: arguments.cycles,
        seed: arguments.common.seed,
        emitters: arguments.emitters,
    };
    let report = arguments.common.report("kills", arguments.cycles.into());
    let tally = kill::run(&settings, &|count| report.seen(count));
    // A file with which something went wrong stays for whoever looks into it.
    folder.disable_cleanup(!tally.as_ref().is_ok_and(|tally| tally.violations.is_empty()));
    let tally = tally?;
    let wrong = tally
        .violations
        .iter()
        .map(|(cycle, what)| format!("{what}; after kill {cycle} of {}", settings.file.display()));
    Ok(report.end(tally.json(), wrong))
}

pub(crate) fn plant_bugs(arguments: &PlantedBugs) -> Result<bool, Failure> {
    let report = arguments.common.report("planted bugs", Bug::ALL.len() as u64);
    let Common { seed, .. } = arguments.common;
    let settings = planted::Settings { tries: arguments.tries, seed, threads: arguments.common.threads() };
    let mut looked = Vec::new();
    for bug in Bug::ALL {
        looked.push(look_for(bug, settings)?);
        report.seen(1);
    }
    let missed = looked.iter().filter(|caught| caught.what.is_none());
    let wrong: Vec<_> = missed.map(|missed| format!("{:?} was not caught", missed.bug)).collect();
    Ok(report.end(planted::json(&looked), wrong))
}

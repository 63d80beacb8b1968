//! What each command does: sets the work up, shows how far it is, and says what came of it.

use std::env;

use millstream_sim::{
    flips, images, io, kill,
    level::{EngineLevel, Level, StoreLevel},
    planted::{self, Planting, look_for},
    real::Real,
    wait::now,
};
use serde_json::Map;

use crate::{Common, Failure, Flips, Images, Io, Kill, PlantedBugs, Which, report::seconds};

/// How to run the simulator.
const RUN: &str = "cargo run --release -p millstream-sim --";

/// How something lives in a run of a seed.
fn level(which: Which, seed: u64, run: u64) -> Box<dyn Level> {
    let opens = Real::of(seed, run);
    match which {
        Which::Store => Box::new(StoreLevel(opens)),
        Which::Engine | Which::Both => Box::new(EngineLevel { opens, bug: None }),
    }
}

pub(crate) fn look_at_images(arguments: &Images) -> Result<bool, Failure> {
    let Common { seed, .. } = arguments.common;
    if let Some(place) = arguments.only {
        let report = arguments.common.report("image", 1);
        let tally = images::repeat(seed, place, &|run| level(arguments.level, seed, run))?;
        return Ok(report.end(tally.json(), wrong_images(arguments.level, seed, &tally)));
    }
    let levels = arguments.level.levels();
    let report = arguments.common.report("images", arguments.count * levels.len() as u64);
    let settings = images::Settings { images: arguments.count, seed, threads: arguments.common.threads() };
    let (mut total, mut each, mut wrong) = (images::Tally::default(), Map::new(), Vec::new());
    for which in levels {
        let begun = now();
        let tally = images::run(settings, &|run| level(*which, seed, run), &|count| report.seen(count))?;
        let mut figures = tally.json();
        figures["seconds"] = seconds(begun).into();
        each.insert(which.name().to_owned(), figures);
        wrong.extend(wrong_images(*which, seed, &tally));
        total.add(tally);
    }
    let mut figures = total.json();
    figures.as_object_mut().into_iter().for_each(|figures| figures.extend(each.clone()));
    Ok(report.end(figures, wrong))
}

fn wrong_images(which: Which, seed: u64, tally: &images::Tally) -> Vec<String> {
    let say = |violation: &images::Violation| {
        let place = violation.place.map_or_else(|| format!("{}.0.0", violation.run), |place| place.to_string());
        let level = if which == Which::Store { "store" } else { "engine" };
        format!("{}; again with: {RUN} --level {level} --seed {seed} --only {place}", violation.what)
    };
    tally.violations.iter().map(say).collect()
}

pub(crate) fn break_disks(arguments: &Io) -> Result<bool, Failure> {
    let seeds = arguments.common.seed..arguments.common.seed + arguments.seeds;
    let mut work = Vec::new();
    for which in arguments.level.levels() {
        for seed in seeds.clone() {
            let level = level_for_faults(*which);
            let points = io::points(seed, &*level)?;
            work.push((which, seed, level, points));
        }
    }
    let length = work.iter().map(|(.., points)| points.len().div_ceil(arguments.stride.get()) as u64).sum();
    let report = arguments.common.report("failures of the disk", length);
    let (mut total, mut wrong) = (io::Tally::default(), Vec::new());
    for (which, seed, level, points) in work {
        let settings = io::Settings { seed, threads: arguments.common.threads(), stride: arguments.stride.get() };
        let tally = io::run(settings, &*level, &points, &|count| report.seen(count))?;
        let say = |(point, what): &(io::Point, String)| format!("{what}; {} {seed} at {point:?}", which.name());
        wrong.extend(tally.violations.iter().map(say));
        total.add(tally);
    }
    Ok(report.end(total.json(), wrong))
}

/// As a store is opened by default.
fn level_for_faults(which: Which) -> Box<dyn Level> {
    match which {
        Which::Store => Box::new(StoreLevel(Real::default())),
        Which::Engine | Which::Both => Box::new(EngineLevel { opens: Real::default(), bug: None }),
    }
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
    let is_wanted = |bug: &Planting| arguments.only.as_ref().is_none_or(|only| *only == bug.to_string());
    let bugs: Vec<_> = Planting::all().filter(is_wanted).collect();
    if bugs.is_empty() {
        let names: Vec<_> = Planting::all().map(|bug| bug.to_string()).collect();
        return Err(format!("there is no such bug; there are {}", names.join(", ")).into());
    }
    let report = arguments.common.report("planted bugs", bugs.len() as u64);
    let Common { seed, .. } = arguments.common;
    let settings = planted::Settings { tries: arguments.tries, seed, threads: arguments.common.threads() };
    let mut looked = Vec::new();
    for bug in bugs {
        looked.push(look_for(bug, settings)?);
        report.seen(1);
    }
    let missed = looked.iter().filter(|caught| caught.what.is_none());
    let wrong: Vec<_> = missed.map(|missed| format!("{} was not caught", missed.bug)).collect();
    Ok(report.end(planted::json(&looked), wrong))
}

//! The store holds what it promises through crashes, failures of the disk and flipped bits; few of each, for the long runs
//! are commands.

use std::fmt::Debug;

use millstream_sim::{
    disk::SimDisk,
    drive::{Faults, Opens, drive},
    engine::{life, plan::Plan},
    flips,
    image::Image,
    images, io,
    level::{EngineLevel, Level, StoreLevel},
    real::Real,
};

fn assert_well<W: Debug>(violations: &[W]) {
    assert!(violations.is_empty(), "{:#?}", &violations[..violations.len().min(10)]);
}

fn engine(seed: u64, run: u64) -> EngineLevel {
    EngineLevel { opens: Real::of(seed, run), bug: None }
}

#[test]
fn what_a_crash_leaves_is_what_was_acknowledged() {
    let levels = |run| Box::new(StoreLevel(Real::of(7, run))) as Box<dyn Level>;
    let tally = images::run(images::Settings { images: 400, seed: 7, threads: 2 }, &levels, &|_| {}).unwrap();
    assert_eq!(tally.images, 400);
    assert!(tally.again > 40, "a fifth crash again: {}", tally.again);
    assert_well(&tally.violations);
}

#[test]
fn an_engine_does_all_that_it_owes_after_a_crash() {
    let levels = |run| Box::new(engine(7, run)) as Box<dyn Level>;
    let tally = images::run(images::Settings { images: 300, seed: 7, threads: 2 }, &levels, &|_| {}).unwrap();
    assert_eq!(tally.images, 300);
    assert!(tally.again > 30 && tally.runs > 1 && tally.injected > 0, "{tally:?}");
    assert_well(&tally.violations);
}

#[test]
fn an_engine_survives_a_failure_of_the_disk_or_reports_it() {
    let level = engine(0, 0);
    let points = io::points(5, &level).unwrap();
    let stride = points.len() / 60;
    let tally = io::run(io::Settings { seed: 5, threads: 2, stride }, &level, &points, &|_| {}).unwrap();
    assert!(tally.reported > 10 && tally.survived > 0, "{tally:?}");
    assert_well(&tally.violations);
}

#[test]
fn the_same_seed_makes_the_same_life_of_an_engine() {
    for seed in 0..3 {
        let steps = || {
            let disk = SimDisk::recording(Image::default());
            let opens = Real::of(seed, 0);
            let setting = life::Setting { opens: &opens, disk: &disk, bug: None, faults: Faults::default() };
            let chronicle = life::live(Plan::of(seed, 20), setting).unwrap();
            assert_well(&chronicle.wrong);
            (format!("{:?}", disk.take_recording().steps), format!("{:?}", chronicle.orders))
        };
        assert!(steps() == steps(), "seed {seed}");
    }
}

#[test]
fn a_failure_of_the_disk_is_survived_or_reported() {
    let level = StoreLevel(Real::default());
    let points = io::points(5, &level).unwrap();
    let tally = io::run(io::Settings { seed: 5, threads: 2, stride: 11 }, &level, &points, &|_| {}).unwrap();
    assert!(tally.reported > 30 && tally.survived > 0, "{tally:?}");
    assert_well(&tally.violations);
}

#[test]
fn a_flipped_bit_is_detected_or_harmless() {
    let opens = |file| Box::new(Real::of(3, file)) as Box<dyn Opens>;
    let settings = flips::Settings { count: 400, seed: 3, threads: 2 };
    let tally = flips::run(settings, &opens, &|image, at, bit| image.flip(at, bit), &|_| {}).unwrap();
    assert!(tally.detected > 100 && tally.harmless > 0, "{tally:?}");
    assert_well(&tally.violations);
}

#[test]
fn the_same_seed_makes_the_same_steps_to_the_last_byte() {
    for seed in 0..3 {
        let steps = || {
            let disk = SimDisk::recording(Image::default());
            let driven = drive(&Real::of(seed, 0), &disk, seed, 20, Faults::default()).unwrap();
            assert_well(&driven.wrong);
            (format!("{:?}", disk.take_recording().steps), driven.history.entries.len())
        };
        let (first, batches) = steps();
        assert!(batches > 20 && first == steps().0, "seed {seed}");
    }
}

#[test]
fn an_image_can_be_looked_at_again_by_its_name() {
    let place: images::Place = "3.120.4".parse().unwrap();
    assert_eq!(place.to_string(), "3.120.4");
    for is_whole in [false, true] {
        let level = |run| -> Box<dyn Level> {
            if is_whole { Box::new(engine(1, run)) } else { Box::new(StoreLevel(Real::of(1, run))) }
        };
        let tally = images::repeat(1, place, &level).unwrap();
        assert!(tally.images >= 1);
        assert_well(&tally.violations);
    }
    assert!("3.120".parse::<images::Place>().is_err() && "a.b.c".parse::<images::Place>().is_err());
}

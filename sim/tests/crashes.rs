//! The store holds what it promises through crashes, failures of the disk and flipped bits; few of each, for the long runs
//! are commands.

use std::fmt::Debug;

use millstream_sim::{
    disk::SimDisk,
    drive::{Faults, Opens, drive},
    flips,
    image::Image,
    images, io,
    real::Real,
};

fn assert_well<W: Debug>(violations: &[W]) {
    assert!(violations.is_empty(), "{:#?}", &violations[..violations.len().min(10)]);
}

#[test]
fn what_a_crash_leaves_is_what_was_acknowledged() {
    let opens = |run| Box::new(Real::of(7, run)) as Box<dyn Opens>;
    let tally = images::run(images::Settings { images: 400, seed: 7, threads: 2 }, &opens, &|_| {}).unwrap();
    assert_eq!(tally.images, 400);
    assert!(tally.again > 40, "a fifth crash again: {}", tally.again);
    assert_well(&tally.violations);
}

#[test]
fn a_failure_of_the_disk_is_survived_or_reported() {
    let opens = Real::default();
    let points = io::points(5, &opens).unwrap();
    let tally = io::run(io::Settings { seed: 5, threads: 2, stride: 11 }, &opens, &points, &|_| {}).unwrap();
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
    let opens = |run| Box::new(Real::of(1, run)) as Box<dyn Opens>;
    let place: images::Place = "3.120.4".parse().unwrap();
    assert_eq!(place.to_string(), "3.120.4");
    let tally = images::repeat(1, place, &opens).unwrap();
    assert!(tally.images >= 1);
    assert_well(&tally.violations);
    assert!("3.120".parse::<images::Place>().is_err() && "a.b.c".parse::<images::Place>().is_err());
}

//! One program for all fuzz targets: `cargo xtask fuzz` builds and runs it.
//!
//! The targets stand in the crates that they are about (`src/fuzz.rs`), so that they see what is
//! private there, and so that the tests replay their corpora without a fuzzer.
#![no_main]

use std::alloc::System;
use std::sync::LazyLock;

use cap::Cap;
use libfuzzer_sys::fuzz_target;

/// What names the target: arguments are libFuzzer's.
const TARGET: &str = "BASTIDE_FUZZ_TARGET";
/// Most bytes that one input may make a target hold at a time. Inputs have 64 KiB at most.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Refuses what is above the limit, which ends the run as a crash.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// The targets of all crates.
static CRATES: &[&[(&str, fn(&[u8]))]] = &[
    bastide_agent::fuzz::TARGETS,
    bastide_api::fuzz::TARGETS,
    bastide_client::fuzz::TARGETS,
    bastide_cluster::fuzz::TARGETS,
    bastide_control::fuzz::TARGETS,
    bastide_lab::fuzz::TARGETS,
    bastide_linux::fuzz::TARGETS,
    bastide_mesh::fuzz::TARGETS,
    bastide_names::fuzz::TARGETS,
    bastide_pki::fuzz::TARGETS,
    bastide_stack::fuzz::TARGETS,
    bastide_store::fuzz::TARGETS,
];

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var(TARGET).unwrap_or_default();
    let mut all = CRATES.iter().copied().flatten();
    let found = all.find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("{TARGET} names no target: `{wanted}`")).1
});

fuzz_target!(
    init: {
        // What a target keeps for all of its runs is made now, and does not count.
        LazyLock::force(&RUN);
    },
    |bytes: &[u8]| {
        ALLOCATOR
            .set_limit(ALLOCATOR.allocated() + HELD_BYTES_MAX)
            .expect("the limit is above what is allocated");
        RUN(bytes);
        ALLOCATOR
            .set_limit(usize::MAX)
            .expect("there is no limit above this one");
    }
);

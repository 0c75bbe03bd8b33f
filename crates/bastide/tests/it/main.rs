//! The program as its users run it: the real binary on the hosts of a lab, with real engines.
//!
//! Each test brings up a network of its own and takes it down; without root, or without a program
//! that it needs, it says so and passes. What `bastide demo` shows is not repeated here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod away;
mod canaries;
mod clocks;
mod containers;
mod doctor;
mod down;
mod engines;
mod hvac;
mod join;
mod killed;
mod networks;
mod people;
mod ports;
mod removal;
mod restart;
mod restored;
mod sealed;
mod secrets;
mod sessions;
mod site;
mod ssh;
mod steps;
mod swarm;
mod timing;
mod units;
mod upgrade;

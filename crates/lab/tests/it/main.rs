//! Labs of real namespaces. Each test brings up a network of its own and takes it down; without
//! root, or without a program that it needs, it says so and passes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clean;
mod docker;
mod hosts;
mod nat;
mod support;
mod wire;

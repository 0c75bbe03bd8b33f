//! Labs of real namespaces. Each test brings up a network of its own and takes it down; without
//! root, or without a program that it needs, it says so and passes.

mod clean;
mod docker;
mod hosts;
mod nat;
mod support;
mod wire;

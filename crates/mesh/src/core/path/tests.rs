//! Whole networks of nodes, with their WireGuard machines, behind every kind of NAT, in one thread
//! and virtual time.

mod faults;
mod hostile;
mod matrix;
mod nat;
mod networks;
mod world;

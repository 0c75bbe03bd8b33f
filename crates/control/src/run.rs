//! What the control plane does: writer, listeners, audit file, expiry, clock.

mod audit_desk;
pub mod audit_devices;
pub mod audit_file;
mod audit_remote;
pub mod channel;
pub mod clock;
pub mod dev;
pub mod directory;
pub mod fetch;
mod form;
pub mod gate;
pub mod http;
mod limits;
pub mod listen;
pub mod log_book;
pub mod outbox;
pub mod plane;
pub mod server;
pub mod sources;
pub mod standalone;
pub mod strangers;
pub mod timed;
pub mod transit_seal;
pub mod trust;
pub mod writer;

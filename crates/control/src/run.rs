//! What the control plane does around its decisions.
//!
//! - Requests: [`listen`] and [`http`] take them in, [`gate`] hands them to the plane or answers while
//!   the server is sealed, [`plane`] has them decided and does slow work, [`writer`] commits.
//! - Audit: [`outbox`] brings records to a device ([`audit_file`] and others), [`log_book`] signs
//!   checkpoints of them.
//! - Servers: [`server`] opens a store; [`channel`] is a cluster's controller, [`standalone`] the API
//!   alone, [`dev`] one for trying things out.
//! - Others: [`directory`], [`fetch`] and [`transit_seal`] ask servers that are not of this cluster,
//!   which [`trust`] judges.

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

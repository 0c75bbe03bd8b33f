//! The control plane's client: requests, joining, renewing and the watch, over TLS to a list of
//! controllers or over a socket of this host. Beside it lives the one type that spawns tasks.
//!
//! ```text
//!   Client --TLS 1.3, no SNI--> first controller of the list that answers
//!   Client::watch --lines--> ViewFollower --verified--> view, facts
//! ```
//!
//! This crate never decides what to do with a view, never stores anything, never believes a view
//! without its signature, and never sends a secret before the other end has proven what it is.

#![forbid(unsafe_code)]

mod client;
mod error;
mod follow;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;
mod http;
mod log;
mod session;
mod tasks;
mod tls;
mod watch;

pub use client::{Client, Patience};
pub use error::{Attempt, ClientError, Failing};
pub use follow::{FollowError, Followed, ViewFollower};
pub use log::{KnownLog, LogError, LogFollower};
pub use session::{
    SessionEvent, SessionInput, SessionOutput, open_session, read_frame, write_frame,
};
pub use tasks::{TaskError, TaskGroup};
pub use tls::{ByClock, ClientIdentity, Trust};
pub use watch::Watch;

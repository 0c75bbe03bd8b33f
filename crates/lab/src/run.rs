//! What a lab does: supervisor, hosts, captures, and the handle of all that.

pub mod capture;
mod control;
mod init;
pub mod lab;
mod make;
mod process;
mod state;
mod supervisor;
pub mod sweep;

pub use control::{LinkStatus, NodeStatus, Status};
pub use init::init_main;
pub use process::{Output, Process};
pub use supervisor::supervisor_main;

use std::error::Error;
use std::fmt::Write as _;

/// Prefix of the control group of every lab, below the root of each hierarchy.
pub(crate) const GROUP_PREFIX: &str = "bastide-lab-";

/// Writes an error and its causes into one line, to cross a process border.
pub(crate) fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text.replace('\n', " ")
}

//! Everything here is pure: text in, data out.

pub mod compose;
pub mod image;
pub mod model;
mod yaml;

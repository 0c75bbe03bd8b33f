//! What remains of a lab.

//! What the tests of this crate share.

/// Tells whether the test may make namespaces; if not, says so.
pub(crate) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: root is missing");
    }
    is_root
}

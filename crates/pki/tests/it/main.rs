//! OpenSSL as a judge of what this crate makes and takes.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod openssl;

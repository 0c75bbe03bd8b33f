//! OpenSSL as a judge of what this crate makes and takes.

mod openssl;

//! An ordered map with atomic, compared batches, and the barrier through which every value passes
//! on its way there.
//!
//! A [`Store`] keeps bytes under keys, counts commits, and can tell what changed since one of them;
//! [`RedbStore`] is the store of a single controller, on disk or in memory. [`Unsealed`] holds the
//! keyring: values are sealed before they reach a store and opened after they leave it. What opens it
//! is a [`Seal`]: a key file, shares that people hold, a TPM, or a key that another server holds.
//!
//! ```text
//!   decision --plain--> Unsealed::seal --sealed--> Transaction --fsync--> disk
//!   handler <--plain--- OpenSnapshot  <--sealed--- Snapshot    <--------- disk
//!   seal --wraps--> root key --seals--> keyring of epochs --derives--> a key per epoch and table
//! ```
//!
//! This crate never stores a plain value or a plain key, never decides who may read, and never
//! blocks a reader behind a writer. Keys (paths) are stored in clear.

#![forbid(unsafe_code)]

mod barrier;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;
mod log;
mod map;
mod redb;
mod seal;
#[cfg(feature = "simulation")]
pub mod simulation;

pub use self::redb::{OpenError, RedbStore};
pub use barrier::{
    Barrier, BarrierError, EpochStatus, OpenSnapshot, PlainEntry, SealedBy, Unsealed,
};
pub use log::Compacted;
pub use map::{
    Batch, Change, Compare, Conflict, Key, KeyRange, Op, Snapshot, Store, StoreError, Table,
    Transaction,
};
pub use seal::{
    DevSeal, KeyFileSeal, Seal, SealError, ShamirSeal, Share, Sharing, SharingError, TpmError,
    TpmSeal,
};

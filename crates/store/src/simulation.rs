//! A disk that loses power, for tests: what was not synced is kept apart, and a crash keeps, drops or
//! tears it, sector by sector, as a seed says. Built with the feature `simulation` alone.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::map::StoreError;
use crate::redb::RedbStore;

/// Bytes that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Numbers that look drawn, and are the same for the same seed (`SplitMix64`).
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Draws a number below `below`, which is not 0.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// What a sync is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    /// What was written before it is durable.
    Hold,
    /// Nothing: the disk lies.
    Lie,
}

/// A disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    syncs: Syncs,
    /// What the program sees.
    seen: Vec<u8>,
    /// What a crash cannot take.
    durable: Vec<u8>,
    /// What happened since, oldest first.
    pending: Vec<Pending>,
    /// How many operations until the power is lost.
    left: Option<u64>,
    is_off: bool,
    operations: u64,
}

#[derive(Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Resize(usize),
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("simulated disks are small")
}

fn put(disk: &mut [u8], at: usize, data: &[u8]) {
    disk[at..at + data.len()].copy_from_slice(data);
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        self.operations += 1;
        match &mut self.left {
            Some(0) => {
                self.is_off = true;
                Err(io::Error::other("the power was lost"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl SimulatedDisk {
    /// Makes an empty disk.
    pub fn new(syncs: Syncs) -> Self {
        Self::with(syncs, Vec::new())
    }

    fn with(syncs: Syncs, content: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            syncs,
            seen: content.clone(),
            durable: content,
            pending: Vec::new(),
            left: None,
            is_off: false,
            operations: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a store on it, with the commits of a real one.
    pub fn open(&self) -> Result<RedbStore, StoreError> {
        RedbStore::on_backend(self.clone())
    }

    /// Lets the power go off within the operation after so many writes, resizes and syncs.
    pub fn lose_power_after(&self, operations: u64) {
        self.state().left = Some(operations);
    }

    /// Turns the power off now.
    pub fn turn_off(&self) {
        self.state().is_off = true;
    }

    /// Returns whether the power is off.
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Returns how many writes, resizes and syncs there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Turns the power off and on again: returns the disk as it may then be.
    #[must_use]
    pub fn after_crash(&self, draw: &mut Draw) -> Self {
        let mut state = self.state();
        state.is_off = true;
        let mut found = state.durable.clone();
        // All of it, none of it, or each sector with a chance of its own.
        let chance = match draw.below(4) {
            0 => 0,
            1 => 100,
            _ => 1 + draw.below(99),
        };
        let mut survives = || draw.below(100) < chance;
        for pending in &state.pending {
            match pending {
                Pending::Resize(length) => {
                    if survives() {
                        found.resize(*length, 0);
                    }
                }
                Pending::Write(at, data) => {
                    let mut done = 0;
                    while done < data.len() {
                        let from = at + done;
                        let some = (SECTOR_BYTES - from % SECTOR_BYTES).min(data.len() - done);
                        // A sector beyond the file's end has no place to be.
                        if survives() && from + some <= found.len() {
                            put(&mut found, from, &data[done..done + some]);
                        }
                        done += some;
                    }
                }
            }
        }
        Self::with(state.syncs, found)
    }
}

impl StorageBackend for SimulatedDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if state.is_off {
            return Err(io::Error::other("the power is off"));
        }
        let from = place(offset);
        let found = state.seen.get(from..from + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        let was_on = !state.is_off;
        let went = state.step();
        let length = place(length);
        if was_on {
            state.pending.push(Pending::Resize(length));
        }
        went?;
        state.seen.resize(length, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if state.syncs == Syncs::Hold {
            for pending in std::mem::take(&mut state.pending) {
                match pending {
                    Pending::Write(at, data) => put(&mut state.durable, at, &data),
                    Pending::Resize(length) => state.durable.resize(length, 0),
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let was_on = !state.is_off;
        let went = state.step();
        // The write during which the power goes is torn like any other.
        if was_on {
            state
                .pending
                .push(Pending::Write(place(offset), data.to_vec()));
        }
        went?;
        put(&mut state.seen, place(offset), data);
        Ok(())
    }
}

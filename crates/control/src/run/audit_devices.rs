//! All audit devices: how they record, as requests see it, and their outboxes, as the writer does.
//!
//! A request is done only if one device at least takes its records. One that does not take them, or
//! hangs, holds up nothing: its records wait in the store up to a bound, and beyond it a gap is
//! counted, which its log tells once it goes on.

use std::sync::Arc;

use bastide_api::Revision;
use bastide_store::{Batch, Key, OpenSnapshot, Unsealed};

use crate::core::audit::devices::{Device, DeviceId};
use crate::core::audit::headers::Headers;
use crate::core::audit::{Audited, Hasher, Lines, Recorder};
use crate::core::need::Need;
use crate::core::pipeline::Envelope;
use crate::core::request::Request;
use crate::run::audit_file::Mark;
use crate::run::outbox::{AuditTo, Outbox, Way};
use crate::run::writer::{WriteError, WriterError};

/// The devices at one revision, and how each records.
pub struct DeviceTable {
    revision: Revision,
    own: Option<Recorder>,
    others: Vec<(Arc<Device>, Recorder)>,
}

impl DeviceTable {
    /// Makes the table of a revision. `own`: what the hashes of the server's own device are salted
    /// with, if it has one. `headers`: which headers of requests all of them record.
    pub(super) fn new(
        revision: Revision,
        barrier: &Unsealed,
        own: Option<&str>,
        others: Vec<Arc<Device>>,
        headers: &Arc<Headers>,
    ) -> Self {
        let with = |recorder| Recorder {
            headers: Arc::clone(headers),
            ..recorder
        };
        Self {
            revision,
            own: own.map(|salt| with(Recorder::usual(Hasher::new(barrier, salt)))),
            others: others
                .into_iter()
                .map(|device| {
                    let recorder = with(device.recorder(barrier));
                    (device, recorder)
                })
                .collect(),
        }
    }

    /// Whether nothing is recorded.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_none() && self.others.is_empty()
    }

    /// Records a request and its answer for each device.
    pub(super) fn record(
        self: &Arc<Self>,
        about: &Audited,
        request: &Request,
        answer: Option<&Envelope>,
        now: bastide_api::UnixTime,
    ) -> Records {
        let own = self.own.iter().map(|it| (DeviceId::default(), it));
        let others = self.others.iter().map(|(device, it)| (device.id, it));
        let lines = own
            .chain(others)
            .map(|(id, recorder)| (id, recorder.lines(about, request, answer, now)));
        Records {
            table: Some(Arc::clone(self)),
            lines: lines.collect(),
        }
    }
}

/// The records of one request, for each device.
pub struct Records {
    table: Option<Arc<DeviceTable>>,
    lines: Vec<(DeviceId, Lines)>,
}

impl Records {
    fn are_for(&self, outbox: &Outbox) -> bool {
        self.lines.iter().any(|(id, _)| *id == outbox.id())
    }

    /// Lets them be for another device.
    #[cfg(test)]
    pub(super) fn rename(&mut self, id: DeviceId) {
        self.lines[0].0 = id;
    }

    /// Records for the server's own device alone.
    #[cfg(test)]
    pub(super) fn own(lines: Lines) -> Self {
        Self {
            table: None,
            lines: vec![(DeviceId::default(), lines)],
        }
    }
}

/// The outboxes of all devices.
pub(super) struct Outboxes {
    each: Vec<Outbox>,
    revision: Revision,
    /// What devices that were disabled left in the store.
    left: Vec<Key>,
    /// Whether a sync was asked for that was not yet made.
    is_sync_asked: bool,
}

impl Outboxes {
    /// Opens the server's own device, and those that were enabled at a snapshot. That one of these
    /// does not work is no reason not to start.
    pub(super) fn open(
        own: Option<AuditTo>,
        others: &[Arc<Device>],
        store: &OpenSnapshot,
    ) -> Result<Self, WriterError> {
        let mut this = Self {
            each: Vec::new(),
            revision: store.revision(),
            left: Vec::new(),
            is_sync_asked: false,
        };
        if let Some(to) = own {
            let name = to.path.display().to_string();
            let mut outbox = Outbox::new(DeviceId::default(), name, Way::own(to));
            outbox.open(store)?;
            this.each.push(outbox);
        }
        for device in others {
            this.add(device, store);
        }
        Ok(this)
    }

    fn add(&mut self, device: &Device, store: &OpenSnapshot) {
        let Ok(target) = device.target() else {
            tracing::error!(
                device = device.path,
                "the audit device's options are not valid"
            );
            return;
        };
        let mut outbox = Outbox::new(device.id, device.path.clone(), Way::to(target));
        if let Err(error) = outbox.open(store) {
            tracing::warn!(device = device.path, cause = ?error, "the audit device cannot be used");
        }
        self.each.push(outbox);
    }

    /// Opens and closes devices as the table of a request says, if that is newer.
    pub(super) fn follow(
        &mut self,
        records: &Records,
        store: impl FnOnce() -> Result<OpenSnapshot, bastide_store::StoreError>,
    ) -> Result<(), bastide_store::StoreError> {
        let Some(table) = &records.table else {
            return Ok(());
        };
        if self.knows(records) {
            return Ok(());
        }
        let known = |id: DeviceId| table.others.iter().any(|(device, _)| device.id == id);
        let is_over = |outbox: &Outbox| outbox.id() != DeviceId::default() && !known(outbox.id());
        for outbox in self.each.extract_if(.., |outbox| is_over(outbox)) {
            self.left.extend(outbox.leave());
        }
        let fresh: Vec<_> = table
            .others
            .iter()
            .filter(|(device, _)| !self.each.iter().any(|it| it.id() == device.id))
            .map(|(device, _)| Arc::clone(device))
            .collect();
        if !fresh.is_empty() {
            let store = store()?;
            for device in fresh {
                self.add(&device, &store);
            }
        }
        self.revision = table.revision;
        Ok(())
    }

    /// Returns whether the devices are those that a request was recorded for, or newer ones.
    pub(super) fn knows(&self, records: &Records) -> bool {
        let table = records.table.as_ref();
        table.is_none_or(|table| table.revision <= self.revision)
    }

    /// Returns whether so much waits for a device that it has to be made durable before more does.
    pub(super) fn are_full(&self) -> bool {
        self.each.iter().any(|outbox| outbox.is_filled_by(4))
    }

    /// Returns whether a device is filling, once until it is made durable.
    pub(super) fn asks_for_sync(&mut self) -> bool {
        let is_filling = !self.is_sync_asked && self.each.iter().any(Outbox::is_filling);
        self.is_sync_asked |= is_filling;
        is_filling
    }

    /// Returns how far the files are written that may be made durable meanwhile.
    pub(super) fn marks(&self) -> Vec<(DeviceId, Mark)> {
        let mark = |outbox: &Outbox| Some((outbox.id(), outbox.mark()?));
        self.each.iter().filter_map(mark).collect()
    }

    /// Takes what became of the sync of a mark.
    pub(super) fn settle(&mut self, device: DeviceId, mark: &Mark, synced: std::io::Result<()>) {
        self.is_sync_asked = false;
        let mut each = self.each.iter_mut();
        if let Some(outbox) = each.find(|outbox| outbox.id() == device) {
            outbox.settle(mark, synced);
        }
    }

    /// Judges whether any device takes these records with this need. If none does, but there are
    /// devices by now for which they were not made, they are to be made anew.
    pub(super) fn accept(
        &self,
        records: &Records,
        need: Need,
        store_has_room: bool,
    ) -> Result<(), WriteError> {
        let mut taking = self.each.iter().filter(|outbox| records.are_for(outbox));
        if self.each.is_empty() || taking.any(|outbox| outbox.accepts(need, store_has_room)) {
            return Ok(());
        }
        if self.each.iter().all(|outbox| records.are_for(outbox)) {
            return Err(WriteError::Audit);
        }
        Err(WriteError::Conflict)
    }

    /// Returns whether what is given to the devices is safe from a crash of this program.
    pub(super) fn are_prompt(&self) -> bool {
        self.each.iter().all(Outbox::is_prompt)
    }

    /// Chains the records of a request, for each device that takes them.
    pub(super) fn chain(&mut self, records: &Records, need: Need, store_has_room: bool) {
        for outbox in &mut self.each {
            let lines = records.lines.iter().find(|(id, _)| *id == outbox.id());
            let Some((_, lines)) = lines else {
                continue;
            };
            if outbox.accepts(need, store_has_room) {
                outbox.chain(lines.each());
            } else {
                outbox.miss();
            }
        }
    }

    /// Returns what is to be stored with the next commit.
    pub(super) fn take_unstored(&mut self) -> Vec<(Key, Arc<[u8]>)> {
        let each = self.each.iter_mut();
        each.flat_map(Outbox::take_unstored).collect()
    }

    /// Adds what the store may forget.
    pub(super) fn trim(&mut self, batch: &mut Batch) {
        let trimmed = self.each.iter_mut().flat_map(Outbox::take_trimmed);
        let gone = trimmed.chain(self.left.drain(..));
        batch.ops.extend(gone.map(bastide_store::Op::Delete));
    }

    /// Returns the outbox of the server's own device, if it has one.
    pub(super) fn own(&mut self) -> Option<&mut Outbox> {
        let mut each = self.each.iter_mut();
        each.find(|outbox| outbox.id() == DeviceId::default())
    }

    /// Calls `work` on each.
    pub(super) fn all(&mut self, work: impl FnMut(&mut Outbox)) {
        self.each.iter_mut().for_each(work);
    }

    /// Returns up to where the server's own file is known to be durable, in bytes.
    #[cfg(test)]
    pub(super) fn length_durable(&self) -> u64 {
        self.each.first().map_or(0, Outbox::length_durable)
    }
}

//! What was read last of the store, for as long as it has not changed.

use super::{Plane, Undone, seed};
use crate::core::audit::Audited;
use crate::core::audit::devices::{self};
use crate::core::audit::headers;
use crate::core::draft::Draft;
use crate::core::entropy::Entropy;
use crate::core::mounts::MountTable;
use crate::core::pipeline::Response;
use crate::core::refusal::Refusal;
use crate::core::request::Request;
use crate::core::tables;
use crate::run::audit_devices::{DeviceTable, Records};
use bastide_store::{KeyRange, OpenSnapshot};
use std::sync::{Arc, PoisonError};

impl Plane {
    /// Returns the mounts at a snapshot: those read last, unless they have changed since.
    pub(super) fn mounts(&self, snapshot: &OpenSnapshot) -> Result<Arc<MountTable>, Refusal> {
        let at = snapshot.revision();
        let known = self
            .0
            .mounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((read_at, table)) = known
            && self
                .0
                .store
                .unchanged(&MountTable::range(), at.min(read_at))
        {
            return Ok(table);
        }
        let mut draft = Draft::new(snapshot, self.now(), Entropy::new(&seed()), &[]);
        draft.know_ttls(self.0.server.ttls);
        let table = draft.mounts()?;
        let known = Some((at, Arc::clone(&table)));
        *self.0.mounts.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(table)
    }

    /// Makes the records of a request and its answer, for all audit devices; none if there are none.
    pub(super) fn record(
        &self,
        audited: &Audited,
        request: &Request,
        response: &Response,
    ) -> Result<Option<Records>, Undone> {
        let devices = self.devices().map_err(Undone::Refused)?;
        if devices.is_empty() {
            return Ok(None);
        }
        let answer = response.outcome.as_ref().ok();
        Ok(Some(devices.record(audited, request, answer, self.now())))
    }

    /// Returns the audit devices as they are now.
    fn devices(&self) -> Result<Arc<DeviceTable>, Refusal> {
        let known = self
            .0
            .devices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((at, table)) = known
            && self.0.store.unchanged(&devices::range(), at)
        {
            return Ok(table);
        }
        let snapshot = self.snapshot()?;
        let mut draft = Draft::new(&snapshot, self.now(), Entropy::new(&seed()), &[]);
        let others = devices::load(&mut draft)?;
        let recorded = Arc::new(headers::load(&mut draft)?);
        let own = self.0.server.audit.first().map(|own| own.path.as_str());
        let at = snapshot.revision();
        let table = Arc::new(DeviceTable::new(
            at,
            &self.0.barrier,
            own,
            others,
            &recorded,
        ));
        let known = Some((at, Arc::clone(&table)));
        *self
            .0
            .devices
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = known;
        Ok(table)
    }

    /// Returns a number that stands for the policies as they are at a snapshot.
    pub(super) fn policies(&self, snapshot: &OpenSnapshot) -> u64 {
        let at = snapshot.revision();
        let all = KeyRange::prefix(tables::POLICIES, "");
        let known = self.0.policies.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        let (looked, number) = *known;
        // Nothing changed between the two, in whichever order they are.
        if number == 0 || !self.0.store.unchanged(&all, at.min(looked)) {
            *known = (at, number + 1);
        }
        known.1
    }

    /// Returns a snapshot of the last revision. Requests between two commits share one: to begin one
    /// costs more than to read from it.
    pub(super) fn snapshot(&self) -> Result<Arc<OpenSnapshot>, Refusal> {
        let at = self.0.store.revision();
        let newest = self.0.newest.lock();
        let mut newest = newest.unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = newest.as_ref().filter(|known| known.revision() == at) {
            return Ok(Arc::clone(known));
        }
        let snapshot = self.0.store.snapshot().map_err(|error| {
            tracing::error!(cause = ?error, "the store cannot be read");
            Refusal::Internal("the store cannot be read".to_owned())
        })?;
        let snapshot = Arc::new(OpenSnapshot::new(snapshot, Arc::clone(&self.0.barrier)));
        *newest = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }
}

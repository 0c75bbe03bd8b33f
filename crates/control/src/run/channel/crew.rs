//! What a controller runs behind a gate.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use bastide_api::ClusterRecord;

use super::{Certificates, ControllerError, Listen, Listening, cluster, listeners, start};
use crate::run::gate::{Crew, Post};
use crate::run::listen::{Identify, Whose};
use crate::run::server::Server;

/// Decides where a controller listens, once its cluster's record is known.
pub type Where = Box<dyn Fn(&ClusterRecord) -> Option<Listen> + Send>;

/// A controller behind a gate: node channel and API, which stay while it is sealed, and on the open
/// plane its certificates and the watch.
///
/// A server that starts sealed shows the certificates of the process before it, from the file `kept`.
/// Once they have ended, 24 hours after they were made, nodes do not believe it any more until it is
/// opened; by then they have dropped each other as well.
pub struct ControllerCrew {
    certificates: Arc<Certificates>,
    known: Arc<RwLock<Option<Identify>>>,
    place: Where,
    bound: Arc<RwLock<Listening>>,
}

impl ControllerCrew {
    /// Keeps what a sealed start needs in `kept`; `None` keeps nothing, for a server that a key file
    /// opens.
    pub fn new(kept: Option<PathBuf>, place: Where) -> Self {
        Self {
            certificates: Arc::new(Certificates::new(kept)),
            known: Arc::default(),
            place,
            bound: Arc::default(),
        }
    }

    /// Returns where it listens, which is known once it does.
    pub fn bound(&self) -> Arc<RwLock<Listening>> {
        Arc::clone(&self.bound)
    }

    fn known(&self) -> Identify {
        let known = Arc::clone(&self.known);
        Arc::new(move |chain| {
            let known = known.read().unwrap_or_else(PoisonError::into_inner).clone();
            match known {
                Some(identify) => identify(chain),
                None => Whose::Unknown,
            }
        })
    }

    fn set_known(&self, identify: Option<Identify>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = identify;
    }

    fn posts(&self, listen: &Listen) -> Result<Vec<Post>, ControllerError> {
        let mut bound = self.bound.write().unwrap_or_else(PoisonError::into_inner);
        if *bound != Listening::default() {
            return Ok(Vec::new());
        }
        let (posts, at) = listeners(listen, &self.certificates, &self.known())?;
        *bound = at;
        Ok(posts)
    }

    async fn begin(&mut self, server: &mut Server) -> Result<Vec<Post>, ControllerError> {
        let record = cluster(server.plane())?.ok_or(ControllerError::NoCluster)?;
        let listen = (self.place)(&record).ok_or(ControllerError::NoCluster)?;
        let identify = start(server, &listen, &self.certificates).await?;
        self.set_known(Some(identify));
        self.posts(&listen)
    }
}

impl Crew for ControllerCrew {
    fn open<'a>(
        &'a mut self,
        server: &'a mut Server,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Post>, ControllerError>> + Send + 'a>> {
        Box::pin(self.begin(server))
    }

    fn close(&mut self) {
        self.set_known(None);
    }

    fn wait(&mut self) -> Result<Vec<Post>, ControllerError> {
        match self.certificates.take_kept()? {
            Some(listen) => self.posts(&listen),
            None => Ok(Vec::new()),
        }
    }
}

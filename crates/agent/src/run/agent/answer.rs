//! What the agent tells whoever asks on its socket.

use std::convert::Infallible;
use std::sync::Arc;

use bastide_api::paths::PathAnswer;
use bastide_api::status::{Status, SwarmServiceStatus, SwarmStatus};

use super::Agent;
use crate::core::{picture, skew};
use crate::run::engine::EngineState;
use crate::run::images;
use crate::run::socket::Question;

impl Agent {
    pub(super) fn answer(&mut self, question: Question) {
        match question {
            Question::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Question::Why { from, to, reply } => {
                let picture = self.pictures.borrow();
                let is_ours = from == self.me;
                let reported = picture.facts.get(&from);
                let answer = PathAnswer {
                    story: is_ours.then(|| self.mesh.story(to)).flatten(),
                    reported: reported.and_then(|facts| facts.paths.get(&to)).cloned(),
                };
                let _ = reply.send(answer);
            }
            Question::Image(name, reply) => {
                let (engine, blobs) = (self.member.settings().engine, Arc::clone(&self.blobs));
                // An image may take minutes; the loop goes on meanwhile.
                self.tasks.spawn("image import", async move {
                    let _ = reply.send(images::prepare(&engine, &blobs, &name).await);
                    Ok::<(), Infallible>(())
                });
            }
            Question::Swarm(reply) => {
                let _ = reply.send(swarm_status(&self.engine.borrow()));
            }
            Question::Order(order) => {
                // Full: whoever waits for the reply is told by its end.
                drop(self.orders.try_send(order));
            }
        }
    }

    fn status(&self) -> Status {
        let picture = self.pictures.borrow();
        let engine = self.engine.borrow();
        let mut facts = (*picture.facts).clone();
        let own = facts.entry(self.me).or_default();
        own.tasks.clone_from(&engine.tasks);
        own.swarm_node.clone_from(&engine.member);
        own.troubles.clone_from(&engine.troubles);
        own.troubles
            .extend(skew::trouble(self.member.clock().skew()));
        let (wishes, _) = bastide_cluster::core::service::wishes(&picture.view);
        let wanted = wishes
            .into_iter()
            .map(|wish| ((wish.stack, wish.service), wish.spec.replicas))
            .collect();
        picture::status(&picture::Sources {
            me: self.me,
            view: &picture.view,
            facts: &facts,
            paths: &self.paths.borrow(),
            events: &self.mesh.events(),
            wanted: &wanted,
            controller: picture.connected,
            refused: picture.refused.as_deref(),
            departed: picture.departed.as_deref(),
            standing: *self.standing.borrow(),
        })
    }
}

fn swarm_status(engine: &EngineState) -> SwarmStatus {
    let managed = engine.managed.clone().unwrap_or_default();
    SwarmStatus {
        member: engine.member.clone(),
        manager: engine.managed.is_some(),
        ready: u32::try_from(managed.ready.len()).unwrap_or(u32::MAX),
        services: managed
            .services
            .into_iter()
            .map(|(name, (running, wanted))| SwarmServiceStatus {
                name,
                running,
                wanted,
            })
            .collect(),
    }
}

//! Where things are.

/// What is set for this host: keys, the CA, the operator's token.
pub const SETTINGS: &str = "/etc/bastide";
/// What this host keeps.
pub const STATE: &str = "/var/lib/bastide";
/// The server's folder: its store and its audit log.
pub const SERVER: &str = "/var/lib/bastide/server";
/// The server's own audit log; older ones stand beside it, with more after the name.
pub const AUDIT_LOG: &str = "/var/lib/bastide/server/audit.log";
/// The last checkpoint of the audit log that this host's agent heard of.
pub const LOG_CHECKPOINT: &str = "/var/lib/bastide/agent/audit-log.json";
/// The agent's folder: its keys, its certificate, its last view, its journal, its images.
pub const AGENT: &str = "/var/lib/bastide/agent";
/// The key file that opens the server's seal, apart from the store that it seals.
pub const SEAL_KEY: &str = "/etc/bastide/seal.key";
/// The operator's token on the first controller.
pub const OPERATOR_TOKEN: &str = "/etc/bastide/operator.token";
/// What `bastide ssh setup` changed on this host.
pub const SSH_JOURNAL: &str = "/var/lib/bastide/ssh-setup.json";
/// The agent's socket.
pub const AGENT_SOCKET: &str = "/run/bastide/agent.sock";
/// The cluster's CA, which anyone may read.
pub const CA: &str = "/etc/bastide/ca.pem";
/// What `up` or `join` leaves for the agent's first start under systemd; deleted when it is
/// a node.
pub const AGENT_HANDOVER: &str = "/var/lib/bastide/agent/handover.json";
/// What a first start makes, until all that follows from it is kept.
pub const SERVER_BEGIN: &str = "/var/lib/bastide/server/begin";
/// The server's socket, for root and its own user: the way in that needs no certificate.
pub const SERVER_SOCKET: &str = "/var/lib/bastide/server/server.sock";

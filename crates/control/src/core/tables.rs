//! The tables of the store, and what stands in them. Values are JSON behind the barrier.

use bastide_store::Table;

/// `mount path` -> a mount.
pub const MOUNTS: Table = Table(1);
/// `mount uuid 16 | key` -> what an engine stores.
pub const ENGINE: Table = Table(2);
/// `policy name` -> a policy's text.
pub const POLICIES: Table = Table(3);
/// `token id 32` -> a token's entry. A token's id is an HMAC of the token.
pub const TOKENS: Table = Table(4);
/// `accessor` -> the token's id.
pub const ACCESSORS: Table = Table(5);
/// `parent id 32 | child id 32` -> nothing.
pub const TOKEN_CHILDREN: Table = Table(6);
/// `token id 32` -> a revoked token whose children and leases are not yet swept.
pub const SWEEP: Table = Table(7);
/// `lease id` -> a lease.
pub const LEASES: Table = Table(8);
/// `expiry in ms, big-endian 8 | lease id` -> nothing.
pub const LEASE_EXPIRY: Table = Table(9);
/// `token id 32 | lease id` -> nothing.
pub const LEASE_TOKENS: Table = Table(10);
/// Single values: the server's own identity.
pub const CORE: Table = Table(11);
/// `token id 32 | digest of a key 32` -> what was answered under an idempotency key.
pub const IDEMPOTENCY: Table = Table(24);
/// `end in ms, big-endian 8 | token id 32 | digest of a key 32` -> nothing.
pub const IDEMPOTENCY_EXPIRY: Table = Table(25);
/// `config`, and `rate-limit/name` -> a rule of how much may be asked.
pub const QUOTAS: Table = Table(48);
/// Single values of the writer's own: the highest time seen, the audit chain's head.
pub const WRITER: Table = Table(0x80);
/// `sequence, big-endian 8` -> an audit record that is not yet known to be on the server's own device;
/// `device id 8 | sequence, big-endian 8` -> one that is not yet known to be on another.
pub const AUDIT_OUTBOX: Table = Table(0x81);
/// `level 1 | index, big-endian 8` -> up to 256 hashes of the tree over the audit log.
pub const AUDIT_TREE: Table = Table(0x82);
/// `path` -> an audit device that was enabled through the API.
pub const AUDIT_DEVICES: Table = Table(60);
/// `batch` -> nothing: under its key batch tokens are sealed, and nothing is stored.
pub const BATCH_TOKENS: Table = Table(17);
/// `mount uuid 16 | digest of the provider 32` -> nothing: under its key logins that wait for their
/// browser are sealed, and nothing is stored.
pub const LOGIN_STATES: Table = Table(19);
/// `wrapping token's id 32` -> a wrapped answer.
pub const WRAPPED: Table = Table(18);
/// `mount uuid 16` -> a mount that was removed and whose storage is not yet cleared.
pub const GRAVES: Table = Table(14);
/// `prefix` -> when: leases below it that were granted until then are revoked and not all swept.
pub const LEASE_GRAVES: Table = Table(15);
/// `lease id` -> nothing: what the lease stood for could not be undone yet.
pub const LEASE_TROUBLE: Table = Table(16);

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;
use crate::core::engine::{Call, Engine};
use crate::core::pipeline;
use crate::core::reply::Answer;
use crate::core::request::Operation::{List, Read, Update};
use crate::core::trial::{As, Trial, text};

fn login(trial: &mut Trial) -> String {
    let path = "auth/userpass/login/ada";
    let made = trial
        .ask(As::Nobody, Update, path, json!({ "password": "p" }))
        .unwrap();
    made.auth.unwrap()["client_token"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn with_user() -> Trial {
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    let user = json!({ "password": "p", "token_ttl": "100s", "token_max_ttl": "150s" });
    trial.write("auth/userpass/users/ada", user);
    trial
}

#[test]
fn a_lease_can_be_found_listed_and_revoked() {
    let mut trial = with_user();
    let token = login(&mut trial);
    let below = "sys/leases/lookup/auth/userpass/login/ada";
    let keys = trial.root(List, below, json!({})).unwrap();
    let id = format!(
        "auth/userpass/login/ada/{}",
        keys["keys"][0].as_str().unwrap()
    );
    let top = trial
        .root(List, "sys/leases/lookup/auth/userpass", json!({}))
        .unwrap();
    assert_eq!(top["keys"], json!(["login/"]));
    let shown = trial.write("sys/leases/lookup", json!({ "lease_id": id }));
    assert_eq!(
        (&shown["ttl"], &shown["last_renewal"]),
        (&json!(100), &json!(null))
    );
    trial.write("sys/leases/revoke", json!({ "lease_id": id }));
    assert!(!trial.is_good(&token));
    trial.write("sys/leases/revoke", json!({ "lease_id": id }));
    let gone = trial
        .root(Update, "sys/leases/lookup", json!({ "lease_id": id }))
        .unwrap_err();
    assert_eq!(text(gone), "invalid lease");
}

#[test]
fn leases_end_in_the_order_of_their_time() {
    let mut trial = with_user();
    let first = login(&mut trial);
    trial.pass(30);
    let second = login(&mut trial);
    trial.pass(71);
    trial.tend();
    assert!(!trial.is_good(&first) && trial.is_good(&second));
    assert_eq!(trial.count(tables::LEASES), 1);
    trial.pass(30);
    trial.tend();
    assert_eq!(trial.count(tables::LEASES), 0);
    assert_eq!(trial.count(tables::LEASE_EXPIRY), 0);
    assert_eq!(trial.count(tables::TOKENS), 1);
}

#[test]
fn a_prefix_of_leases_is_revoked_without_its_neighbours() {
    let mut trial = with_user();
    trial.write("sys/auth/userpass2", json!({ "type": "userpass" }));
    trial.write("auth/userpass2/users/ada", json!({ "password": "p" }));
    let one = login(&mut trial);
    let path = "auth/userpass2/login/ada";
    let made = trial
        .ask(As::Nobody, Update, path, json!({ "password": "p" }))
        .unwrap();
    let other = made.auth.unwrap()["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    trial.write("sys/leases/revoke-prefix/auth/userpass", json!({}));
    assert!(!trial.is_good(&one));
    assert!(trial.is_good(&other), "`userpass2` is not below `userpass`");
    assert!(
        trial
            .root(List, "sys/leases/lookup/auth/userpass", json!({}))
            .is_err()
    );
}

#[test]
fn removing_an_auth_method_ends_its_tokens() {
    let mut trial = with_user();
    let token = login(&mut trial);
    trial
        .root(
            crate::core::request::Operation::Delete,
            "sys/auth/userpass",
            json!({}),
        )
        .unwrap();
    assert!(!trial.is_good(&token));
}

#[test]
fn a_prefix_larger_than_one_batch_is_swept_and_later_leases_live() {
    let mut trial = with_user();
    let old: Vec<String> = (0..520).map(|_| login(&mut trial)).collect();
    trial.write("sys/leases/revoke-prefix/auth/userpass", json!({}));
    assert_eq!(
        trial.count(tables::LEASE_GRAVES),
        1,
        "the test must leave something to sweep"
    );
    trial.pass(1);
    let new = login(&mut trial);
    trial.tend();
    assert!(old.iter().all(|token| !trial.is_good(token)));
    assert!(trial.is_good(&new));
    assert_eq!(trial.count(tables::LEASE_GRAVES), 0);
    assert_eq!(trial.count(tables::LEASES), 1);
}

/// An engine that grants things which cannot be undone for as long as somebody says so.
struct Stubborn {
    undone: Arc<Mutex<Vec<String>>>,
    refuses: Arc<AtomicBool>,
}

impl Engine for Stubborn {
    fn kind(&self) -> &'static str {
        "stubborn"
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        ctx.put(call.path, b"granted".to_vec())?;
        let mut answer = Answer::json(json!({}));
        answer.lease = Some(Grant {
            ttl: Duration::from_secs(100),
            ttl_max: Duration::from_secs(250),
            renewable: true,
            data: json!({ "what": call.path }),
        });
        Ok(answer)
    }

    fn revoke(&self, ctx: &mut Context<'_, '_>, lease: &Lease) -> Result<(), Refusal> {
        let Subject::Granted(data) = &lease.subject else {
            panic!("it grants no tokens")
        };
        let what = data["what"].as_str().unwrap();
        ctx.delete(what);
        if self.refuses.load(Ordering::Relaxed) {
            return Err(Refusal::Unavailable("the other side is away".to_owned()));
        }
        self.undone.lock().unwrap().push(what.to_owned());
        Ok(())
    }
}

/// A trial with a stubborn engine at `stubborn/`.
struct Stuck {
    trial: Trial,
    undone: Arc<Mutex<Vec<String>>>,
    refuses: Arc<AtomicBool>,
}

impl Stuck {
    fn new() -> Self {
        let mut trial = Trial::new();
        let (undone, refuses) = (Arc::default(), Arc::new(AtomicBool::new(true)));
        trial.add_engine(Arc::new(Stubborn {
            undone: Arc::clone(&undone),
            refuses: Arc::clone(&refuses),
        }));
        trial.write("sys/mounts/stubborn", json!({ "type": "stubborn" }));
        Self {
            trial,
            undone,
            refuses,
        }
    }

    fn grant(&mut self, who: As<'_>, what: &str) -> String {
        let path = format!("stubborn/{what}");
        let granted = self.trial.ask(who, Update, &path, json!({})).unwrap();
        assert_eq!(granted.lease_duration, 100);
        granted.lease_id
    }

    fn listed(&mut self, kind: &str) -> Vec<Value> {
        let listed = self
            .trial
            .root(Read, "sys/leases", json!({ "type": kind }))
            .unwrap();
        let leases = listed["leases"].as_array().unwrap().clone();
        let counted = self
            .trial
            .root(Read, "sys/leases/count", json!({ "type": kind }))
            .unwrap();
        assert_eq!(counted["lease_count"], json!(leases.len()));
        leases
    }

    fn rows(&mut self) -> [usize; 4] {
        [
            tables::LEASES,
            tables::LEASE_EXPIRY,
            tables::LEASE_TOKENS,
            tables::LEASE_TROUBLE,
        ]
        .map(|table| self.trial.count(table))
    }
}

// CVE-2024-2048 and CVE-2026-39388 were renewals that nobody judged.
#[test]
fn a_token_is_renewed_by_the_method_that_made_it_and_not_by_its_lease() {
    let mut trial = with_user();
    let token = login(&mut trial);
    let below = "sys/leases/lookup/auth/userpass/login/ada";
    let keys = trial.root(List, below, json!({})).unwrap();
    let id = format!(
        "auth/userpass/login/ada/{}",
        keys["keys"][0].as_str().unwrap()
    );
    let by_method = |trial: &mut Trial| {
        let path = "auth/token/renew-self";
        let renewed = trial.ask(As::Token(&token), Update, path, json!({}))?;
        Ok::<_, Refusal>(renewed.auth.unwrap()["lease_duration"].clone())
    };
    trial.pass(50);
    assert_eq!(by_method(&mut trial).unwrap(), json!(100), "the control");
    trial
        .root(
            crate::core::request::Operation::Delete,
            "auth/userpass/users/ada",
            json!({}),
        )
        .unwrap();
    assert!(by_method(&mut trial).is_err(), "she is gone");
    for path in ["sys/leases/renew".to_owned(), format!("sys/renew/{id}")] {
        let asked = json!({ "lease_id": id, "increment": 500 });
        let refused = trial.root(Update, &path, asked).unwrap_err();
        assert_eq!(
            text(refused),
            "tokens cannot be renewed through this endpoint"
        );
    }
    trial.pass(100);
    assert!(!trial.is_good(&token));
}

#[test]
fn an_undo_that_fails_is_tried_ever_more_rarely_until_it_succeeds() {
    let mut stuck = Stuck::new();
    let id = stuck.grant(As::Root, "one");
    stuck.trial.pass(101);
    stuck.trial.tend();
    let gone = stuck
        .trial
        .root(Update, "sys/leases/lookup", json!({ "lease_id": id }))
        .unwrap_err();
    assert_eq!(text(gone), "invalid lease", "it is good for nothing");
    let renew = stuck
        .trial
        .root(Update, "sys/leases/renew", json!({ "lease_id": id }))
        .unwrap_err();
    assert_eq!(text(renew), "lease not found", "nor can it be renewed");
    assert_eq!(stuck.listed("failing")[0]["attempts"], json!(1));
    assert!(stuck.listed("irrevocable").is_empty());
    // What the engine did before it failed was taken back.
    let mount = stuck.trial.mount("stubborn/");
    let has = |trial: &mut Trial| {
        let key = key(tables::ENGINE, &[&mount.0, b"one"]);
        trial.snapshot().get(&key).unwrap().is_some()
    };
    assert!(has(&mut stuck.trial));

    let mut tries = Vec::new();
    let mut known = 1;
    for second in (0..3600).step_by(5) {
        stuck.trial.pass(5);
        stuck.trial.tend();
        let attempts = stuck.listed("failing")[0]["attempts"].as_u64().unwrap();
        if known < attempts {
            tries.push(second);
            known = attempts;
        }
    }
    assert!((8..=12).contains(&known), "{known} tries in an hour");
    let waits: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        waits[0] <= 25 && waits.iter().all(|wait| *wait <= 905),
        "{waits:?}"
    );
    let listed = stuck.listed("irrevocable");
    assert_eq!(listed[0]["lease_id"], json!(id));
    assert_eq!(listed[0]["error"], json!("the other side is away"));

    stuck.refuses.store(false, Ordering::Relaxed);
    stuck.trial.pass(901);
    stuck.trial.tend();
    assert_eq!(*stuck.undone.lock().unwrap(), ["one"]);
    assert!(!has(&mut stuck.trial));
    assert!(stuck.listed("failing").is_empty());
    assert_eq!(stuck.rows(), [0, 0, 0, 0]);
}

#[test]
fn a_lease_that_cannot_be_undone_holds_up_no_other() {
    let mut stuck = Stuck::new();
    stuck
        .trial
        .write("sys/auth/userpass", json!({ "type": "userpass" }));
    let user = json!({ "password": "p", "token_ttl": "100s" });
    stuck.trial.write("auth/userpass/users/ada", user);
    for number in 0..5 {
        stuck.grant(As::Root, &format!("thing-{number}"));
    }
    // One that is not even readable, and is due first.
    let id = "stubborn/damaged/x";
    let due = stuck.trial.now.as_millis().to_be_bytes();
    let row = key(tables::LEASE_EXPIRY, &[&due, id.as_bytes()]);
    stuck.trial.write_row(row, Vec::new());
    stuck
        .trial
        .write_row(Key::new(tables::LEASES, id), b"no lease".to_vec());
    let token = login(&mut stuck.trial);
    stuck.trial.pass(101);
    stuck.trial.tend();
    assert!(!stuck.trial.is_good(&token));
    let path = "auth/userpass/login/ada";
    let left = leases_below(&mut stuck.trial, path);
    assert_eq!(left, 0, "the token's lease was swept");
    assert_eq!(stuck.listed("failing").len(), 5);
}

fn leases_below(trial: &mut Trial, prefix: &str) -> usize {
    let listed = trial.root(List, &format!("sys/leases/lookup/{prefix}"), json!({}));
    listed.map_or(0, |listed| listed["keys"].as_array().unwrap().len())
}

#[test]
fn a_revocation_that_cannot_be_done_now_says_so_and_force_forgets_it() {
    let mut stuck = Stuck::new();
    let id = stuck.grant(As::Root, "one");
    let answer = stuck
        .trial
        .ask(
            As::Root,
            Update,
            "sys/leases/revoke",
            json!({ "lease_id": id }),
        )
        .unwrap();
    assert_eq!(
        answer.shape,
        pipeline::Shape::Accepted,
        "it is not done yet"
    );
    assert!(answer.warnings[0].contains("could not be undone"));
    stuck.grant(As::Root, "two");
    let answer = stuck
        .trial
        .ask(
            As::Root,
            Update,
            "sys/leases/revoke-prefix/stubborn",
            json!({}),
        )
        .unwrap();
    assert!(
        answer.warnings[0].contains("2 of these"),
        "{:?}",
        answer.warnings
    );
    assert_eq!(stuck.listed("failing").len(), 2);
    // The expiry tries both again, whoever asked to revoke them.
    let forced = stuck
        .trial
        .ask(
            As::Root,
            Update,
            "sys/leases/revoke-force/stubborn",
            json!({}),
        )
        .unwrap();
    assert_eq!(forced.shape, pipeline::Shape::Plain);
    assert_eq!(stuck.rows(), [0, 0, 0, 0]);
    assert!(stuck.undone.lock().unwrap().is_empty());
}

#[test]
fn a_forced_prefix_larger_than_one_batch_is_forgotten_whole() {
    let mut stuck = Stuck::new();
    for number in 0..520 {
        stuck.grant(As::Root, &format!("thing-{number}"));
    }
    stuck
        .trial
        .write("sys/leases/revoke-force/stubborn", json!({}));
    assert_ne!(stuck.rows()[0], 0, "something must be left for the sweep");
    stuck.trial.tend();
    assert_eq!(stuck.rows(), [0, 0, 0, 0]);
}

#[test]
fn leases_of_a_revoked_token_whose_undo_fails_do_not_keep_its_sweep_going() {
    let mut stuck = Stuck::new();
    let (token, _) = stuck.trial.token(As::Root, json!({ "policies": ["root"] }));
    stuck.grant(As::Token(&token), "one");
    assert_eq!(stuck.rows()[2], 1, "it dies with its token");
    stuck
        .trial
        .write("auth/token/revoke", json!({ "token": token }));
    stuck.trial.tend();
    assert_eq!(stuck.trial.count(tables::SWEEP), 0);
    assert_eq!(stuck.listed("failing")[0]["attempts"], json!(1));
    stuck.refuses.store(false, Ordering::Relaxed);
    stuck.trial.pass(60);
    stuck.trial.tend();
    assert_eq!(*stuck.undone.lock().unwrap(), ["one"]);
    assert_eq!(stuck.rows(), [0, 0, 0, 0]);
}

#[test]
fn a_lease_is_renewed_within_its_longest_life_and_never_without_end() {
    let mut stuck = Stuck::new();
    stuck.refuses.store(false, Ordering::Relaxed);
    let id = stuck.grant(As::Root, "one");
    let mut renew = |secs: u64, increment: Value| {
        stuck.trial.pass(secs);
        let asked = json!({ "lease_id": id, "increment": increment });
        let renewed = stuck.trial.ask(As::Root, Update, "sys/leases/renew", asked);
        renewed.map(|it| (it.lease_duration, it.warnings.len()))
    };
    assert_eq!(renew(90, json!(120)).unwrap(), (120, 0));
    assert_eq!(renew(100, json!(120)).unwrap(), (60, 1), "cut at 250 s");
    assert_eq!(renew(59, json!("1s")).unwrap(), (1, 0));
    assert_eq!(renew(0, json!(500)).unwrap(), (1, 1));
    assert_eq!(text(renew(1, json!(120)).unwrap_err()), "lease not found");
}

#[test]
fn only_who_may_everything_sees_or_forces_leases_that_fail() {
    let mut stuck = Stuck::new();
    let rules = r#"path "sys/*" { capabilities = ["read", "list", "update"] }"#;
    stuck
        .trial
        .write("sys/policies/acl/most", json!({ "policy": rules }));
    let (token, _) = stuck.trial.token(As::Root, json!({ "policies": ["most"] }));
    for (operation, path) in [
        (Read, "sys/leases"),
        (Read, "sys/leases/count"),
        (List, "sys/leases/lookup/stubborn"),
        (Update, "sys/leases/revoke-prefix/stubborn"),
        (Update, "sys/leases/revoke-force/stubborn"),
    ] {
        let refused = stuck
            .trial
            .ask(As::Token(&token), operation, path, json!({}));
        assert!(matches!(refused, Err(Refusal::Denied)), "{path}");
    }
}

#[test]
fn one_damaged_entry_keeps_nothing_else_from_its_end() {
    let mut trial = with_user();
    let root = json!({ "policies": ["root"], "ttl": "1h" });
    let ids = |trial: &Trial| -> Vec<Key> {
        let all = KeyRange::prefix(tables::TOKENS, "");
        trial.snapshot().keys(&all, 100).unwrap()
    };
    // A damaged child of a token whose sweep is still to come.
    let (parent, _) = trial.token(As::Root, root.clone());
    let before = ids(&trial);
    trial.token(As::Token(&parent), root);
    let child = ids(&trial).into_iter().find(|key| !before.contains(key));
    let child = child.unwrap();
    let parent = TokenId::of(trial.barrier(), &bastide_api::Secret::new(parent));
    trial.write_row(child.clone(), b"damaged".to_vec());
    trial.write_row(Key::new(tables::SWEEP, parent.as_bytes()), Vec::new());
    // A damaged lease below a prefix that was revoked.
    let damaged = LeaseId::parse("auth/userpass/login/ada/damaged").unwrap();
    trial.write_row(at(&damaged), b"damaged".to_vec());
    let grave = json!({ "until": trial.now.as_millis(), "force": false, "after": null });
    let row = Key::new(tables::LEASE_GRAVES, "auth/userpass/");
    trial.write_row(row, serde_json::to_vec(&grave).unwrap());
    // And something that is to end in its turn.
    let token = login(&mut trial);
    trial.pass(100);
    let failed = trial.tend_once();
    assert_eq!(failed.len(), 1, "it is told of: {failed:?}");
    assert_eq!(failed[0].0, "auth/token/");
    let id = TokenId::of(trial.barrier(), &bastide_api::Secret::new(token));
    let left = ids(&trial);
    assert!(!left.contains(&Key::new(tables::TOKENS, id.as_bytes())));
    assert!(left.contains(&child), "the control: it is still there");
    assert_eq!(trial.count(tables::LEASE_GRAVES), 0);
}

#[test]
fn a_place_in_the_order_whose_lease_is_gone_is_not_due_for_ever() {
    let mut trial = Trial::new();
    let gone = LeaseId::parse("secret/gone/x").unwrap();
    trial.write_row(due_at(trial.now, &gone), Vec::new());
    let rows = trial.count(tables::LEASE_EXPIRY);
    trial.pass(1);
    trial.tend();
    assert_eq!(trial.count(tables::LEASE_EXPIRY), rows - 1);
}

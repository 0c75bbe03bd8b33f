use serde_json::json;

use super::*;
use crate::core::request::Operation::{Read, Update};
use crate::core::trial::{As, Trial, text};

fn trial() -> Trial {
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    for name in ["ada", "bob"] {
        let user = json!({ "password": "right" });
        trial.write(&format!("auth/userpass/users/{name}"), user);
    }
    trial
}

fn log_in(trial: &mut Trial, name: &str, password: &str) -> Result<(), Refusal> {
    let path = format!("auth/userpass/login/{name}");
    let data = json!({ "password": password });
    trial.ask(As::Nobody, Update, &path, data).map(drop)
}

fn is_locked(trial: &mut Trial, name: &str) -> bool {
    let hashed = trial.hashed;
    let refused = log_in(trial, name, "right");
    let locked = matches!(refused, Err(Refusal::Locked));
    assert_eq!(locked, trial.hashed == hashed, "a lock is before the hash");
    locked
}

#[test]
fn five_wrong_passwords_lock_a_user_before_the_hash_and_nobody_else() {
    let mut trial = trial();
    for _ in 0..4 {
        let refused = text(log_in(&mut trial, "ada", "wrong").unwrap_err());
        assert_eq!(refused, "invalid username or password");
    }
    // A right one in between forgets them.
    assert!(!is_locked(&mut trial, "ada"));
    for _ in 0..5 {
        assert!(!is_locked(&mut trial, "bob"));
        log_in(&mut trial, "ada", "wrong").unwrap_err();
    }
    assert!(is_locked(&mut trial, "ada"));
    assert!(!is_locked(&mut trial, "bob"));
    trial.pass(899);
    assert!(is_locked(&mut trial, "ada"));
    trial.pass(1);
    assert!(!is_locked(&mut trial, "ada"));
}

// CVE-2025-6004, CVE-2025-54998: each spelling had a count of its own.
#[test]
fn spellings_of_one_name_share_one_count() {
    let mut trial = trial();
    for spelling in ["ada", "Ada", "ADA", "\u{ff41}da", "\u{ff21}DA"] {
        assert!(!matches!(
            log_in(&mut trial, spelling, "wrong"),
            Err(Refusal::Locked)
        ));
    }
    assert!(is_locked(&mut trial, "ada") && is_locked(&mut trial, "aDa"));
    // What is no name is refused as a wrong password is, and counts for nobody.
    for no_name in ["ada%20", " ada", "a b"] {
        let path = format!("auth/userpass/login/{no_name}");
        let data = json!({ "password": "right" });
        let refused = trial.ask(As::Nobody, Update, &path, data).unwrap_err();
        assert_eq!(text(refused), "invalid username or password");
    }
}

// CVE-2025-6011, CVE-2025-54999: who exists showed by the time that an answer took.
#[test]
fn a_user_that_does_not_exist_costs_the_same_hash_and_is_locked_alike() {
    let mut trial = trial();
    let mut seen = Vec::new();
    for name in ["bob", "nobody"] {
        let before = trial.hashed;
        let mut answers = Vec::new();
        for _ in 0..7 {
            let refused = log_in(&mut trial, name, "wrong").unwrap_err();
            answers.push(format!("{refused:?}"));
        }
        seen.push((trial.hashed - before, answers));
    }
    assert_eq!(seen[0].0, 5, "two of seven were refused unhashed");
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn an_operator_sees_who_is_locked_and_unlocks_him() {
    let mut trial = trial();
    for _ in 0..5 {
        log_in(&mut trial, "ada", "wrong").unwrap_err();
        log_in(&mut trial, "ghost", "wrong").unwrap_err();
    }
    let shown = trial.root(Read, "sys/locked-users", json!({})).unwrap();
    assert_eq!(shown["total"], json!(2));
    let method = &shown["by_namespace"][0]["mount_accessors"][0];
    assert_eq!(method["alias_identifiers"], json!(["ada", "ghost"]));
    let accessor = method["mount_accessor"].as_str().unwrap().to_owned();
    let unlock = format!("sys/locked-users/{accessor}/unlock/ADA");
    let nobody = trial.ask(As::Nobody, Update, &unlock, json!({}));
    assert!(nobody.is_err() && is_locked(&mut trial, "ada"));
    trial.write(&unlock, json!({}));
    assert!(!is_locked(&mut trial, "ada"));
    let shown = trial.root(Read, "sys/locked-users", json!({})).unwrap();
    assert_eq!(shown["total"], json!(1));
    let wrong = trial.root(Update, "sys/locked-users/none/unlock/ada", json!({}));
    assert!(wrong.is_err());
}

#[test]
fn a_mount_can_say_otherwise_but_not_that_nothing_locks_or_that_a_lock_is_no_time() {
    let mut trial = trial();
    let mut tune = |config: Value| {
        let data = json!({ "user_lockout_config": config });
        trial.root(Update, "sys/auth/userpass/tune", data)
    };
    for wrong in [
        json!({ "lockout_threshold": 0 }),
        json!({ "lockout_duration": "0s" }),
        json!({ "lockout_duration": "10ms" }),
        json!({ "lockout_counter_reset_duration": 0 }),
        json!({ "lockout_threshold": "many" }),
        json!("5"),
    ] {
        assert!(tune(wrong.clone()).is_err(), "{wrong}");
    }
    tune(json!({ "lockout_threshold": "2", "lockout_duration": "1m" })).unwrap();
    let shown = trial
        .root(Read, "sys/auth/userpass/tune", json!({}))
        .unwrap();
    assert_eq!(shown["user_lockout_config"]["lockout_threshold"], json!(2));
    log_in(&mut trial, "ada", "wrong").unwrap_err();
    log_in(&mut trial, "ada", "wrong").unwrap_err();
    assert!(is_locked(&mut trial, "ada"));
    trial.pass(60);
    assert!(!is_locked(&mut trial, "ada"));
    let off = json!({ "user_lockout_config": { "lockout_disable": true } });
    trial.write("sys/auth/userpass/tune", off);
    for _ in 0..20 {
        log_in(&mut trial, "ada", "wrong").unwrap_err();
    }
    assert!(!is_locked(&mut trial, "ada"));
}

#[test]
fn the_configuration_speaks_for_kinds_of_methods_and_a_mount_for_itself() {
    let seed = bastide_api::Secret::new([0; 32]);
    let mut entropy = crate::core::entropy::Entropy::new(&seed);
    let path = crate::core::path::MountPath::parse("auth/x").unwrap();
    let mut mount = Mount::new(&mut entropy, path, "jwt");
    let mut configured = Configured::new();
    let all = Settings {
        threshold: Some(9),
        duration: Some(60),
        ..Settings::default()
    };
    configured.insert("all".to_owned(), all);
    assert_eq!(
        rule(&mount, &configured),
        None,
        "signatures are not guessed"
    );
    mount.kind = "approle".to_owned();
    assert_eq!(rule(&mount, &configured).unwrap().threshold, 9);
    mount.kind = "ldap".to_owned();
    assert_eq!(rule(&mount, &configured).unwrap().threshold, 9);
    let of_kind = Settings {
        threshold: Some(3),
        ..Settings::default()
    };
    configured.insert("ldap".to_owned(), of_kind);
    let expected = Rule {
        threshold: 3,
        duration: Duration::from_secs(60),
        reset: DEFAULT.reset,
    };
    assert_eq!(rule(&mount, &configured), Some(expected));
    let own = Settings {
        disabled: Some(true),
        ..Settings::default()
    };
    mount.config.user_lockout = Some(own);
    assert_eq!(rule(&mount, &configured), None);
    mount.kind = "jwt".to_owned();
    mount.config.user_lockout = Some(of_kind);
    assert_eq!(rule(&mount, &configured).unwrap().threshold, 3);
}

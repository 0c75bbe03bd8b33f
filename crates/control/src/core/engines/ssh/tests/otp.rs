use super::*;

/// A role for one-time passwords of ada and root at every node.
fn otp_role(trial: &mut Trial) {
    let role = json!({
        "key_type": "otp",
        "default_user": "ada",
        "allowed_users": "ada,root",
        "cidr_list": "100.72.0.0/24,192.0.2.0/24",
        "exclude_cidr_list": "192.0.2.9",
    });
    trial.write("ssh/roles/otp", role);
}

fn creds(trial: &mut Trial, data: Value) -> Result<Value, String> {
    trial
        .root(Operation::Update, "ssh/creds/otp", data)
        .map_err(text)
}

fn password(trial: &mut Trial, data: Value) -> String {
    creds(trial, data).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn verify(trial: &mut Trial, who: As<'_>, otp: &str) -> Result<Value, String> {
    let asked = trial.ask(who, Operation::Update, "ssh/verify", json!({ "otp": otp }));
    asked
        .map(|it| it.data.map_or(Value::Null, Value::Object))
        .map_err(text)
}

fn at_node(trial: &mut Trial, who: As<'_>, otp: &str, user: &str) -> Result<(), String> {
    let asked = json!({ "otp": otp, "username": user, "rhost": "192.0.2.77" });
    let answer = trial.ask(who, Operation::Update, "ssh/node/verify", asked);
    answer.map(drop).map_err(text)
}

#[test]
fn a_password_is_spent_once_and_says_whose_it_was() {
    let mut trial = begin();
    otp_role(&mut trial);
    let answer = trial.ask(
        As::Root,
        Operation::Update,
        "ssh/creds/otp",
        json!({ "ip": "192.0.2.1", "username": "root" }),
    );
    let answer = answer.unwrap();
    assert!(answer.lease_id.starts_with("ssh/creds/otp/"));
    assert_eq!((answer.lease_duration, answer.renewable), (120, false));
    let data = answer.data.unwrap();
    assert_eq!(
        (&data["port"], &data["key_type"]),
        (&json!(22), &json!("otp"))
    );
    let otp = data["key"].as_str().unwrap();
    let told = verify(&mut trial, As::Nobody, otp).unwrap();
    let expected = json!({ "username": "root", "ip": "192.0.2.1", "role_name": "otp" });
    assert_eq!(told, expected);
    assert_eq!(
        verify(&mut trial, As::Nobody, otp).unwrap_err(),
        "OTP not found"
    );
    let echo = verify(&mut trial, As::Nobody, "verify-echo-request").unwrap();
    assert_eq!(echo["message"], "verify-echo-response");
}

#[test]
fn a_password_ends_after_two_minutes_and_with_its_lease() {
    let mut trial = begin();
    otp_role(&mut trial);
    let old = password(&mut trial, json!({ "ip": "192.0.2.1" }));
    trial.pass(120);
    assert_eq!(
        verify(&mut trial, As::Nobody, &old).unwrap_err(),
        "OTP not found"
    );
    let ip = json!({ "ip": "192.0.2.1" });
    let answer = trial
        .ask(As::Root, Operation::Update, "ssh/creds/otp", ip)
        .unwrap();
    trial.write("sys/leases/revoke", json!({ "lease_id": answer.lease_id }));
    let otp = answer.data.unwrap()["key"].as_str().unwrap().to_owned();
    assert_eq!(
        verify(&mut trial, As::Nobody, &otp).unwrap_err(),
        "OTP not found"
    );
    let otp = password(&mut trial, json!({ "ip": "192.0.2.1" }));
    trial.pass(119);
    assert!(verify(&mut trial, As::Nobody, &otp).is_ok(), "the control");
    trial.write(
        "sys/mounts/ssh/tune",
        json!({ "default_lease_ttl": "768h" }),
    );
    let read = trial
        .root(Operation::Read, "ssh/config/otp", json!({}))
        .unwrap();
    assert_eq!(read["ttl"], 600, "a password is never good for 768 h");
}

#[test]
fn of_a_hundred_racers_one_spends_the_password() {
    let mut trial = begin();
    otp_role(&mut trial);
    let node = cluster::node(&mut trial, "atlas", 1).node;
    let otp = password(&mut trial, json!({ "node": "atlas" }));
    let asked = json!({ "otp": otp, "username": "ada" });
    let who = As::Machine(Identity::Node(node.id));
    let decided: Vec<_> = (0..100)
        .map(|_| {
            let request = Trial::request(who, Operation::Update, "ssh/node/verify", asked.clone());
            trial.decide(&request)
        })
        .collect();
    // All were decided on one snapshot, so all would have been let in: the commit parts them.
    assert!(decided.iter().all(|it| it.response.outcome.is_ok()));
    let won = decided
        .into_iter()
        .filter_map(|it| trial.commit(it).then_some(()));
    assert_eq!(won.count(), 1);
    assert!(at_node(&mut trial, who, &otp, "ada").is_err());
}

#[test]
fn a_password_for_a_node_is_spent_by_that_node_for_that_user_alone() {
    let mut trial = begin();
    otp_role(&mut trial);
    let atlas = cluster::node(&mut trial, "atlas", 1).node;
    let borea = cluster::node(&mut trial, "borea", 2).node;
    let otp = password(&mut trial, json!({ "node": "atlas", "username": "root" }));
    let (atlas, borea) = (Identity::Node(atlas.id), Identity::Node(borea.id));
    for (who, user) in [
        (As::Machine(borea), "root"),
        (As::Machine(atlas), "ada"),
        (As::Machine(atlas), "Root"),
        (As::Machine(Identity::Ended(atlas.node())), "root"),
        (As::Root, "root"),
        (As::Nobody, "root"),
    ] {
        assert!(at_node(&mut trial, who, &otp, user).is_err(), "{user}");
    }
    // Vault's way, without the node's identity, does not even spend it.
    let shown = verify(&mut trial, As::Nobody, &otp).unwrap_err();
    assert!(shown.contains("only that node"), "{shown}");
    assert!(verify(&mut trial, As::Root, &otp).is_err());
    at_node(&mut trial, As::Machine(atlas), &otp, "root").unwrap();
    assert!(at_node(&mut trial, As::Machine(atlas), &otp, "root").is_err());
}

#[test]
fn an_address_of_a_node_is_that_node() {
    let mut trial = begin();
    otp_role(&mut trial);
    let node = cluster::node(&mut trial, "atlas", 1).node;
    let asked = json!({ "ip": node.address });
    let otp = password(&mut trial, asked.clone());
    assert!(verify(&mut trial, As::Nobody, &otp).is_err());
    at_node(
        &mut trial,
        As::Machine(Identity::Node(node.id)),
        &otp,
        "ada",
    )
    .unwrap();
    let open = json!({ "allow_unauthenticated_verify": true });
    trial.write("ssh/config/otp", open);
    let otp = password(&mut trial, asked);
    assert!(
        verify(&mut trial, As::Nobody, &otp).is_ok(),
        "as the operator said"
    );
    let closed = json!({ "allow_unauthenticated_verify": false });
    trial.write("ssh/config/otp", closed);
    let asked = json!({ "ip": node.address });
    let otp = password(&mut trial, asked);
    assert!(verify(&mut trial, As::Nobody, &otp).is_err());
    trial.be_like_vault();
    assert!(
        verify(&mut trial, As::Nobody, &otp).is_ok(),
        "as the configuration said"
    );
}

#[test]
fn a_role_that_is_gone_or_was_narrowed_lets_nobody_in() {
    let mut trial = begin();
    otp_role(&mut trial);
    let node = cluster::node(&mut trial, "atlas", 1).node;
    let who = As::Machine(Identity::Node(node.id));
    let otp = password(&mut trial, json!({ "node": "atlas", "username": "root" }));
    let narrow = json!({ "key_type": "otp", "default_user": "ada", "cidr_list": "0.0.0.0/0" });
    trial.write("ssh/roles/otp", narrow);
    assert!(at_node(&mut trial, who, &otp, "root").is_err());
    trial
        .root(Operation::Delete, "ssh/roles/otp", json!({}))
        .unwrap();
    assert!(at_node(&mut trial, who, &otp, "root").is_err());
    otp_role(&mut trial);
    at_node(&mut trial, who, &otp, "root").unwrap();
}

#[test]
fn who_and_where_is_refused_with_vaults_words() {
    let mut trial = begin();
    otp_role(&mut trial);
    for (asked, expected) in [
        (json!({}), "Missing ip"),
        (json!({ "ip": "x" }), "Invalid IP \"x\""),
        (
            json!({ "ip": "198.51.100.1" }),
            "Error validating IP: IP does not belong to role",
        ),
        (
            json!({ "ip": "192.0.2.9" }),
            "Error validating IP: IP does not belong to role",
        ),
        (
            json!({ "ip": "192.0.2.1", "username": "bob" }),
            "Username is not present is allowed users list",
        ),
        (json!({ "node": "nowhere" }), "there is no node `nowhere`"),
    ] {
        assert_eq!(creds(&mut trial, asked).unwrap_err(), expected);
    }
    let lookup = |trial: &mut Trial, ip: &str| {
        trial.write("ssh/lookup", json!({ "ip": ip }))["roles"].clone()
    };
    assert_eq!(lookup(&mut trial, "192.0.2.1"), json!(["otp"]));
    assert_eq!(lookup(&mut trial, "192.0.2.9"), json!([]));
    trial.write("ssh/config/zeroaddress", json!({ "roles": "otp" }));
    assert_eq!(lookup(&mut trial, "192.0.2.9"), json!(["otp"]));
    assert!(creds(&mut trial, json!({ "ip": "::ffff:198.51.100.1" })).is_ok());
    // Who makes another role of that name later does not get every address with it.
    trial
        .root(Operation::Delete, "ssh/roles/otp", json!({}))
        .unwrap();
    otp_role(&mut trial);
    assert_eq!(lookup(&mut trial, "192.0.2.9"), json!([]));
}

#[test]
fn an_exclusion_written_in_ipv6s_form_excludes() {
    let mut trial = begin();
    for excluded in ["::ffff:192.0.2.9", "::ffff:192.0.2.8/125", "192.0.2.8/29"] {
        let role = json!({
            "key_type": "otp",
            "default_user": "ada",
            "cidr_list": "192.0.2.0/24",
            "exclude_cidr_list": excluded,
        });
        trial.write("ssh/roles/otp", role);
        assert!(creds(&mut trial, json!({ "ip": "192.0.2.1" })).is_ok());
        for ip in ["192.0.2.9", "::ffff:192.0.2.9"] {
            let refused = creds(&mut trial, json!({ "ip": ip })).unwrap_err();
            assert!(refused.contains("does not belong to role"), "{excluded}");
        }
    }
}

#[test]
fn the_store_does_not_hold_a_password() {
    let mut trial = begin();
    otp_role(&mut trial);
    let otp = password(&mut trial, json!({ "ip": "192.0.2.1" }));
    let user = b"\"user\":\"ada\"";
    let holds = |value: &[u8], part: &[u8]| value.windows(part.len()).any(|it| it == part);
    let values = trial.values(crate::core::tables::ENGINE);
    assert!(values.iter().any(|value| holds(value, user)), "the control");
    for table in (1..=u8::MAX).map(bastide_store::Table) {
        for value in trial.values(table) {
            assert!(!holds(&value, otp.as_bytes()));
        }
    }
}

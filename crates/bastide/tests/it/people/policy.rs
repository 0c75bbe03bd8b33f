//! Whether a request would be allowed, and by which line.

use super::*;

#[test]
fn a_policy_is_tried_offline_and_as_a_user_and_the_line_that_decides_is_named() {
    let desk = Desk::with_ada(POLICY);
    let file = desk.path("app.hcl");
    fs::write(&file, POLICY).unwrap();
    let file = file.to_str().unwrap();
    let check = |words: &[&str]| desk.own(&[&["policy", "check"], words].concat());
    let said = check(&[file, "GET", "secret/data/app/db"]);
    assert!(said.out.starts_with("allowed: GET"), "{}", said.out);
    assert!(
        said.out
            .contains(&format!("{file}:1  path \"secret/data/app/*\"")),
        "{}",
        said.out
    );
    let said = check(&[file, "GET", "/v1/secret/data/app/closed"]);
    assert_eq!(said.code, 3);
    assert!(said.out.contains(&format!("{file}:5")), "{}", said.out);
    let said = check(&[file, "DELETE", "secret/metadata/app/db"]);
    assert!(
        said.code == 3 && said.out.contains("needed is delete"),
        "{}",
        said.out
    );
    let said = check(&[file, "LIST", "elsewhere"]);
    assert!(
        said.code == 3 && said.out.contains("no line matches"),
        "{}",
        said.out
    );
    let json = check(&["--json", file, "POST", "secret/data/app/db"]);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["lines"][0]["line"], 1);
    assert_eq!(json["allowed"], true);

    // As she is on the server, and as she would be with another text of the same policy.
    let as_ada = |words: &[&str]| {
        let all = [&["policy", "check", "--as", "ada"], words].concat();
        desk.type_with(Some(ROOT), &all, "")
    };
    let said = as_ada(&["GET", "secret/data/app/db"]);
    assert!(
        said.code == 0 && said.out.contains("app:1"),
        "{}{}",
        said.out,
        said.err
    );
    let said = as_ada(&["GET", "auth/token/lookup-self"]);
    assert!(
        said.code == 0 && said.out.contains("default:"),
        "{}",
        said.out
    );
    fs::write(
        file,
        "path \"secret/data/app/db\" { capabilities = [\"deny\"] }",
    )
    .unwrap();
    assert_eq!(as_ada(&[file, "GET", "secret/data/app/db"]).code, 3);
    assert_eq!(as_ada(&["GET", "secret/data/hr"]).code, 3);
    // What is said here is what the server does.
    assert_eq!(desk.own(&["secret", "get", "secret/hr"]).code, 3);

    // Rules on fields are judged for those that are given.
    let text = "path \"sys/x\" {\n  capabilities = [\"update\"]\n  allowed_parameters = { ttl = [\"1h\"] }\n}";
    fs::write(file, text).unwrap();
    assert_eq!(check(&[file, "POST", "sys/x", "ttl=1h"]).code, 0);
    for refused in ["ttl=2h", "other=1"] {
        let said = check(&[file, "POST", "sys/x", refused]);
        assert!(
            said.code == 3 && said.out.contains("not with these fields"),
            "{}",
            said.out
        );
    }
    // So do templates, and policies of her entity and her groups, once it is known who she is.
    let accessor = desk.ask("GET", "/v1/sys/auth", Value::Null)["userpass/"]["accessor"].clone();
    let asked = json!({ "alias_name": "ada", "alias_mount_accessor": accessor });
    let entity = desk.ask("POST", "/v1/identity/lookup/entity", asked)["id"].clone();
    let entity = entity.as_str().unwrap();
    let named = json!({ "name": "lovelace", "policies": ["own"] });
    desk.ask("POST", &format!("/v1/identity/entity/id/{entity}"), named);
    let crew = json!({ "name": "crew", "policies": ["crew"], "member_entity_ids": [entity] });
    desk.ask("POST", "/v1/identity/group", crew);
    for name in ["own", "crew"] {
        let text = format!("path \"secret/data/{name}\" {{ capabilities = [\"read\"] }}");
        desk.type_with(Some(ROOT), &["policy", "put", name, "-"], &text)
            .ok();
        let said = as_ada(&["GET", &format!("secret/data/{name}")]);
        assert!(
            said.code == 0 && said.out.contains(&format!("{name}:1")),
            "{}{}",
            said.out,
            said.err
        );
    }
    let text = "\npath \"secret/data/{{identity.entity.name}}/*\" { capabilities = [\"read\"] }";
    fs::write(file, text).unwrap();
    assert_eq!(check(&[file, "GET", "secret/data/lovelace/x"]).code, 3);
    let said = as_ada(&[file, "GET", "secret/data/lovelace/x"]);
    assert!(
        said.code == 0 && said.out.contains(&format!("{file}:2")),
        "{}{}",
        said.out,
        said.err
    );
    assert_eq!(as_ada(&[file, "GET", "secret/data/ada/x"]).code, 3);

    assert!(desk.root(&["policy", "ls"]).ok().contains("app\n"));
    assert_eq!(desk.root(&["policy", "get", "app"]).ok(), POLICY);
    desk.root(&["policy", "rm", "app"]).ok();
    assert!(!desk.root(&["policy", "ls"]).ok().contains("app\n"));
    fs::write(file, "path \"x\" { capabilities = [\"fly\"] }").unwrap();
    assert_ne!(check(&[file, "GET", "x"]).code, 0);
}

#[test]
fn a_check_knows_what_is_protected_what_is_wrapped_and_where_secrets_lie() {
    let policy = "path \"sys/audit\" { capabilities = [\"read\"] }\n\
                  path \"sys/rotate\" { capabilities = [\"update\", \"sudo\"] }\n\
                  path \"ca/root\" { capabilities = [\"delete\"] }\n\
                  path \"auth/token/accessors\" { capabilities = [\"list\"] }\n\
                  path \"secret/*\" {\n  capabilities = [\"read\", \"list\"]\n  min_wrapping_ttl = \"1m\"\n  \
                  max_wrapping_ttl = \"1h\"\n}\n";
    let desk = Desk::with_ada(policy);
    let file = desk.path("app.hcl");
    fs::write(&file, policy).unwrap();
    let file = file.to_str().unwrap();
    desk.ask("POST", "/v1/sys/mounts/ca", json!({ "type": "pki" }));
    let offline = |words: &[&str]| desk.own(&[&["policy", "check", file], words].concat());
    let as_ada = |words: &[&str]| {
        let all = [&["policy", "check", "--as", "ada"], words].concat();
        desk.type_with(Some(ROOT), &all, "")
    };
    let (granted, missing) = (
        "the path needs `sudo`, which is granted",
        "the path needs `sudo`, which is not granted",
    );
    for (words, code, part) in [
        (&["GET", "sys/audit"][..], 3, missing),
        (&["POST", "sys/rotate"], 0, granted),
        (&["LIST", "auth/token/accessors"], 3, missing),
        (
            &["GET", "secret/data/app"],
            3,
            "only where the answer is wrapped for 60s to 3600s",
        ),
        (
            &["GET", "secret/data/app", "--wrap", "30s"],
            3,
            "only where the answer is wrapped",
        ),
        (
            &["GET", "secret/data/app", "--wrap", "2h"],
            3,
            "only where the answer is wrapped",
        ),
        (&["GET", "secret/data/app", "--wrap", "5m"], 0, "allowed"),
    ] {
        for said in [offline(words), as_ada(words)] {
            assert_eq!(said.code, code, "{words:?}: {}{}", said.out, said.err);
            assert!(said.out.contains(part), "{words:?}: {}", said.out);
            let is_about_fields = said.out.contains("not with these fields");
            assert!(!is_about_fields, "{words:?}: {}", said.out);
        }
    }
    assert_eq!(
        offline(&["GET", "secret/data/app", "--wrap", "soon"]).code,
        2
    );
    // What is mounted at a path is known to the server alone.
    assert_eq!(offline(&["DELETE", "ca/root"]).code, 0);
    let said = as_ada(&["DELETE", "ca/root"]);
    assert!(said.code == 3 && said.out.contains(missing), "{}", said.out);
    let json = |said: Said| serde_json::from_str::<Value>(&said.out).unwrap();
    let shown = json(as_ada(&["--json", "DELETE", "ca/root"]));
    assert_eq!(
        (&shown["sudo_needed"], &shown["sudo_granted"]),
        (&json!(true), &json!(false))
    );
    let shown = json(offline(&["--json", "DELETE", "ca/root"]));
    assert_eq!(shown["sudo_needed"], Value::Null);
    let shown = json(as_ada(&[
        "--json",
        "GET",
        "secret/data/app",
        "--wrap",
        "5m",
    ]));
    assert_eq!(
        (&shown["allowed"], &shown["wrap_ttl"]),
        (&json!(true), &json!(300))
    );
    for (words, path) in [
        (
            ["GET", "secret/app"],
            "`secret/` is kv version 2: the path to ask is `secret/data/app`",
        ),
        (
            ["LIST", "secret/app"],
            "the path to ask is `secret/metadata/app`",
        ),
        (["LIST", "secret"], "the path to ask is `secret/metadata`"),
    ] {
        let said = as_ada(&[&words[..], &["--wrap", "5m"]].concat());
        assert!(said.out.contains(path), "{words:?}: {}", said.out);
    }
    let said = as_ada(&["GET", "secret/data/app", "--wrap", "5m"]);
    assert!(!said.out.contains("path to ask"), "{}", said.out);
    // What is said here is what the server does.
    let token = desk.root(&["token", "create", "--policy", "app"]).ok();
    for (method, path) in [
        ("GET", "sys/audit"),
        ("LIST", "auth/token/accessors"),
        ("DELETE", "ca/root"),
        ("GET", "secret/data/app"),
    ] {
        assert_eq!(
            desk.status(token.trim(), method, path),
            Some(403),
            "{method} {path}"
        );
    }
}

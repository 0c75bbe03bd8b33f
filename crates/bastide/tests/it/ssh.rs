//! `bastide ssh`, with the system's own `sshd`, PAM and `ssh`. Nothing of the machine's own is read or
//! written: each host of a lab has an overlay of its own over all files.

mod false_server;

use bastide_lab::run::Output;
use bastide_linux::spawn::Command;

use crate::site::{BASTIDE, Site, can_run, sh, until};
use false_server::FalseServer;

/// What changes when a host is set up.
const FILES: &str = "cat /etc/ssh/sshd_config /etc/pam.d/sshd; ls -A /etc/ssh/sshd_config.d; \
                     ls /etc/ssh /etc/pam.d /var/lib/bastide";

/// A program that calls the control plane as an operator.
const CALL: &str = "curl -s --cacert /etc/bastide/ca.pem \
                    -H X-Vault-Token:$(cat /etc/bastide/operator.token) https://127.0.0.1:8200/v1/";

fn can_run_ssh() -> bool {
    can_run(&["sshd", "ssh", "ssh-keygen", "ping", "curl"])
}

/// Installs the program, as `sshd` wants it, and starts `sshd`.
fn start_sshd(site: &mut Site, host: &str) {
    let install = format!(
        "install -m 755 {BASTIDE} /usr/local/bin/bastide && mkdir -p /run/sshd && ssh-keygen -q -A \
         && useradd -m ada"
    );
    site.run(host, &install);
    let mut sshd = Command::new("/usr/sbin/sshd");
    sshd.args(["-D", "-e"]);
    site.start(host, sshd, "");
    until("sshd", || site.succeeds(host, "test -s /run/sshd.pid"));
}

/// Atlas with the control plane, boreas with an `sshd`.
fn begin(name: &str) -> Site {
    let mut site = Site::three_and(name, "");
    site.up();
    site.join("boreas", &[]);
    until("the mesh", || site.pings("atlas", "boreas"));
    start_sshd(&mut site, "boreas");
    site
}

fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{}{errors}", output.text())
}

/// The lines of the audit log that hold `part`.
fn records(site: &Site, part: &str) -> Vec<String> {
    let log = site.run("atlas", "cat /var/lib/bastide/server/audit.log");
    let lines = log.lines().filter(|line| line.contains(part));
    lines.map(str::to_owned).collect()
}

#[test]
fn people_log_in_with_certificates_and_what_is_revoked_does_not() {
    if !can_run_ssh() {
        return;
    }
    let site = begin("ssh-cert");
    let setup = "/usr/local/bin/bastide ssh setup";
    let before = site.run("boreas", FILES);
    // Whoever holds no operator's token cannot make the authority, and is told who can.
    let early = site.output("boreas", sh(setup), "");
    assert!(
        said(&early).contains("bastide ssh enable"),
        "{}",
        said(&early)
    );
    assert_eq!(site.run("boreas", FILES), before);
    site.bastide("atlas", &["ssh", "enable"]);
    site.bastide("atlas", &["ssh", "enable"]);
    // `sshd` would not run what others can write.
    site.run(
        "boreas",
        "mkdir -m 777 /run/loose && cp /usr/local/bin/bastide /run/loose/bastide",
    );
    let elsewhere = site.output("boreas", sh("/run/loose/bastide ssh setup"), "");
    assert!(
        said(&elsewhere).contains("install -m 755"),
        "{}",
        said(&elsewhere)
    );
    site.run("boreas", setup);

    let log_in = |site: &Site| {
        let words = [
            "ssh",
            "root@boreas",
            "--",
            "cat /proc/sys/kernel/hostname; exit 7",
        ];
        site.try_bastide("atlas", &words)
    };
    let first = log_in(&site);
    assert_eq!(first.status.code(), Some(7), "{}", said(&first));
    assert_eq!(first.text().trim(), "boreas");
    // Who asked to be whom, and where, stands in the audit log in clear.
    let asked = records(&site, "\"path\":\"ssh/sign/login\"");
    for part in [
        "\"valid_principals\":\"root\"",
        "\"node\":\"boreas\"",
        "\"serial_number\":\"",
    ] {
        assert!(
            asked.iter().any(|line| line.contains(part)),
            "{part}: {asked:?}"
        );
    }
    // Set up twice is set up once.
    site.run("boreas", setup);
    assert_eq!(log_in(&site).status.code(), Some(7));

    // A certificate for one node is good at that one alone.
    let address = site.node("atlas", "boreas").unwrap().address;
    let try_with = |site: &Site, node: &str| {
        let script = format!(
            r#"rm -rf /tmp/k; mkdir /tmp/k; cd /tmp/k; ssh-keygen -q -t ed25519 -N '' -f k
            {CALL}ssh/sign/login -d "{{\"public_key\":\"$(cat k.pub)\",\"valid_principals\":\"root\",\"node\":\"{node}\"}}" |
            sed 's/.*"signed_key":"\([^"]*\)\\n".*/\1/' > k-cert.pub
            ssh-keygen -L -f k-cert.pub
            ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -i k \
            root@{address} echo inside"#
        );
        said(&site.output("atlas", sh(&script), ""))
    };
    let wrong = try_with(&site, "atlas");
    assert!(
        wrong.contains("Key ID:") && wrong.contains("Permission denied"),
        "{wrong}"
    );
    let right = try_with(&site, "boreas");
    assert!(right.contains("inside"), "{right}");

    // What is revoked is refused as soon as the node has heard of it; others still get in.
    let id = right
        .lines()
        .find_map(|line| line.trim().strip_prefix("Key ID: \""));
    let id = id.unwrap().trim_end_matches('"').to_owned();
    site.run(
        "atlas",
        &format!("{CALL}ssh/revoke -d '{{\"key_id\":\"{id}\"}}'"),
    );
    until("the list of what is revoked", || {
        site.succeeds(
            "boreas",
            &format!("grep -q '{id}' /var/lib/bastide/agent/ssh/krl"),
        )
    });
    let again = format!(
        "cd /tmp/k; ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
         -o BatchMode=yes -i k root@{address} echo inside"
    );
    let again = said(&site.output("atlas", sh(&again), ""));
    assert!(again.contains("Permission denied"), "{again}");
    assert_eq!(log_in(&site).status.code(), Some(7));

    // What was changed is taken back to the byte, and nobody gets in that way any more.
    site.run("boreas", "/usr/local/bin/bastide ssh teardown");
    assert_eq!(site.run("boreas", FILES), before);
    let gone = log_in(&site);
    assert_eq!(gone.status.code(), Some(255), "{}", said(&gone));
    let nowhere = site.try_bastide("atlas", &["ssh", "root@nowhere"]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", said(&nowhere));
    site.down();
}

#[test]
fn a_password_is_asked_for_once_and_a_false_server_lets_nobody_in() {
    if !can_run_ssh() {
        return;
    }
    let site = begin("ssh-otp");
    let before = site.run("boreas", FILES);
    site.bastide("atlas", &["ssh", "enable"]);
    site.run("boreas", "/usr/local/bin/bastide ssh setup --otp");

    let words = ["ssh", "--otp", "ada@boreas", "--", "id -un; exit 9"];
    let first = site.try_bastide("atlas", &words);
    assert_eq!(first.status.code(), Some(9), "{}", said(&first));
    assert_eq!(first.text().trim(), "ada");
    // One request and one answer: PAM asked once.
    let asked = records(&site, "\"path\":\"ssh/node/verify\"");
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked
            .iter()
            .all(|line| line.contains("\"username\":\"ada\"")),
        "{asked:?}"
    );

    let address = site.node("atlas", "boreas").unwrap().address;
    let creds = |site: &Site| {
        let asked =
            format!("{CALL}ssh/creds/otp -d '{{\"ip\":\"{address}\",\"username\":\"ada\"}}'");
        let answer: serde_json::Value = serde_json::from_str(&site.run("atlas", &asked)).unwrap();
        answer["data"]["key"].as_str().unwrap().to_owned()
    };
    let type_in = |site: &Site, user: &str, otp: &str| {
        let script = format!(
            "printf '#!/bin/sh\\necho {otp}\\n' > /tmp/answer; chmod 755 /tmp/answer
            SSH_ASKPASS=/tmp/answer SSH_ASKPASS_REQUIRE=force ssh -o StrictHostKeyChecking=no \
            -o UserKnownHostsFile=/dev/null -o PreferredAuthentications=keyboard-interactive \
            -o NumberOfPasswordPrompts=1 {user}@{address} echo inside"
        );
        said(&site.output("atlas", sh(&script), ""))
    };
    // A password that somebody mistyped the user for is not lost.
    let otp = creds(&site);
    let other = type_in(&site, "games", &otp);
    assert!(other.contains("Permission denied"), "{other}");
    let right = type_in(&site, "ada", &otp);
    assert!(right.contains("inside"), "{right}");
    let spent = type_in(&site, "ada", &otp);
    assert!(spent.contains("Permission denied"), "{spent}");

    // Somebody takes the control plane's place on the network and says `verified` to everything.
    let otp = creds(&site);
    let false_server = FalseServer::start(&site, "atlas", 9999);
    site.run(
        "atlas",
        "nft 'add table ip lie; add chain ip lie pre { type nat hook prerouting priority -100; }; \
         add rule ip lie pre iifname bst0 tcp dport 8200 redirect to :9999'",
    );
    assert!(false_server.is_believed_by_who_trusts_it(&site, "boreas"));
    let heard = false_server.connections();
    let lied = type_in(&site, "ada", &otp);
    assert!(lied.contains("Permission denied"), "{lied}");
    assert!(
        heard < false_server.connections(),
        "the false server was asked"
    );
    site.run("atlas", "nft delete table ip lie");
    // It learned nothing, and the password is as good as it was.
    let after = type_in(&site, "ada", &otp);
    assert!(after.contains("inside"), "{after}");

    // Whoever leaves the cluster has no `sshd` that waits for it.
    site.run("boreas", "/usr/local/bin/bastide down");
    assert_eq!(site.run("boreas", FILES), before);
    let gone = type_in(&site, "ada", "whatever");
    assert!(!gone.contains("inside"), "{gone}");
    site.down();
}

#[test]
fn vaults_helper_takes_a_password_for_a_host_that_is_no_node() {
    if !can_run(&["vault-ssh-helper", "curl"]) {
        return;
    }
    let mut site = Site::three_and("ssh-helper", "");
    site.up();
    site.bastide("atlas", &["ssh", "enable"]);
    let ask = |site: &Site, path: &str, body: &str| {
        site.run("atlas", &format!("{CALL}{path} -d '{body}'"))
    };
    let role = r#"{"key_type":"otp","default_user":"ada","cidr_list":"203.0.113.0/24"}"#;
    ask(&site, "ssh/roles/helper", role);
    let helper = "vault-ssh-helper -config=/tmp/helper.hcl";
    site.run(
        "atlas",
        "printf 'vault_addr = \"https://127.0.0.1:8200\"\\nca_cert = \"/etc/bastide/ca.pem\"\\n\
         allowed_roles = \"*\"\\n' > /tmp/helper.hcl",
    );
    site.run("atlas", &format!("{helper} -verify-only"));
    let answer = ask(&site, "ssh/creds/helper", r#"{"ip":"203.0.113.10"}"#);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let otp = answer["data"]["key"].as_str().unwrap();
    let script = format!("printf {otp} | PAM_USER=ada {helper}");
    assert!(site.succeeds("atlas", &script));
    assert!(!site.succeeds("atlas", &script), "it was spent");
    site.down();
}

//! `bastide ssh`, against the system's own `sshd`, PAM and `ssh`, each host with files of its own.

use bastide_lab::run::Output;

use crate::site::{BASTIDE, Site, can_run, sh, until};

/// What the tests' hosts run: nothing of the machine's own is read or written, because each host's
/// files are an overlay of its own.
fn start_sshd(site: &mut Site, host: &str) {
    let install = format!(
        "install -m 755 {BASTIDE} /usr/local/bin/bastide && mkdir -p /run/sshd && ssh-keygen -q -A \
         && touch /etc/ssh/of-this-host"
    );
    site.run(host, &install);
    let mut sshd = bastide_linux::spawn::Command::new("/usr/sbin/sshd");
    sshd.args(["-D", "-e"]);
    site.start(host, sshd, "");
    until("sshd", || site.succeeds(host, "test -s /run/sshd.pid"));
}

fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{}{errors}", output.text())
}

/// The audit records of the engine, as the controller wrote them.
fn records(site: &Site, filter: &str) -> String {
    let script =
        format!("grep -h ssh/ /var/lib/bastide/server/audit.log | grep '{filter}' || true");
    site.run("atlas", &script)
}

fn can_run_ssh() -> bool {
    can_run(&["sshd", "ssh", "ssh-keygen", "ping"])
}

#[test]
fn people_log_in_with_certificates_and_what_is_revoked_does_not() {
    if !can_run_ssh() {
        return;
    }
    let mut site = Site::three_and("ssh-cert", "");
    site.up();
    site.join("boreas", &[]);
    until("the mesh", || site.pings("atlas", "boreas"));
    start_sshd(&mut site, "boreas");
    let before = site.run(
        "boreas",
        "cat /etc/ssh/sshd_config /etc/pam.d/sshd; ls /etc/ssh/*",
    );

    // A node cannot make the authority; the hint says who can, and nothing is changed.
    let early = site.try_bastide("boreas", &["ssh", "setup"]);
    assert!(
        said(&early).contains("bastide ssh enable"),
        "{}",
        said(&early)
    );
    site.bastide("atlas", &["ssh", "enable"]);
    site.bastide("atlas", &["ssh", "enable"]);
    // `sshd` would not run what somebody else can write: the program must be installed.
    let elsewhere = site.try_bastide("boreas", &["ssh", "setup"]);
    assert!(
        said(&elsewhere).contains("/usr/local/bin/bastide"),
        "{}",
        said(&elsewhere)
    );
    site.run("boreas", "/usr/local/bin/bastide ssh setup");

    let log_in = |site: &Site| {
        let words = [
            "ssh",
            "root@boreas",
            "--",
            "cat /etc/ssh/of-this-host; hostname; exit 7",
        ];
        site.try_bastide("atlas", &words)
    };
    let first = log_in(&site);
    assert_eq!(first.status.code(), Some(7), "{}", said(&first));
    assert!(said(&first).contains("boreas"), "{}", said(&first));
    // Who asked, for whom, and where, stands in the audit log in clear.
    let asked = records(&site, "ssh/sign/login");
    assert!(asked.contains("\"valid_principals\":\"root\""), "{asked}");
    assert!(asked.contains("\"node\":\"boreas\""), "{asked}");

    // Set up twice is set up once.
    site.run("boreas", "/usr/local/bin/bastide ssh setup");
    assert_eq!(log_in(&site).status.code(), Some(7));

    // A certificate for one node is none for another.
    start_sshd(&mut site, "atlas");
    site.run("atlas", "/usr/local/bin/bastide ssh setup");
    let crossed = "cd /tmp && ssh-keygen -q -t ed25519 -N '' -f k && \
         V=\"curl -s --cacert /etc/bastide/ca.pem -H X-Vault-Token:$(cat /etc/bastide/operator.token)\" && \
         $V https://127.0.0.1:8200/v1/ssh/sign/login -d \"{\\\"public_key\\\":\\\"$(cat k.pub)\\\",\\\"valid_principals\\\":\\\"root\\\",\\\"node\\\":\\\"NODE\\\"}\" \
         | sed 's/.*\"signed_key\":\"\\([^\"]*\\)\\\\n\".*/\\1/' > k-cert.pub; \
         ssh-keygen -L -f k-cert.pub; \
         ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -i k \
         root@ADDRESS echo inside; rm k k.pub k-cert.pub";
    let address = site.node("atlas", "boreas").unwrap().address.to_string();
    let try_with = |site: &Site, node: &str| {
        let script = crossed.replace("NODE", node).replace("ADDRESS", &address);
        said(&site.output("atlas", sh(&script), ""))
    };
    let right = try_with(&site, "boreas");
    assert!(right.contains("inside"), "{right}");
    let wrong = try_with(&site, "atlas");
    assert!(wrong.contains("Permission denied"), "{wrong}");

    // What is revoked is refused as soon as the node has heard of it.
    let serial = right
        .lines()
        .find_map(|line| line.trim().strip_prefix("Key ID: \""));
    let id = serial.unwrap().trim_end_matches('"').to_owned();
    let revoke = |what: &str| {
        format!(
            "curl -s --cacert /etc/bastide/ca.pem \
             -H X-Vault-Token:$(cat /etc/bastide/operator.token) \
             https://127.0.0.1:8200/v1/ssh/{what}"
        )
    };
    site.run(
        "atlas",
        &format!("{} -d '{{\"key_id\":\"{id}\"}}'", revoke("revoke")),
    );
    until("the list of what is revoked", || {
        site.succeeds(
            "boreas",
            &format!("grep -q '{id}' /var/lib/bastide/agent/ssh/krl"),
        )
    });
    assert_eq!(log_in(&site).status.code(), Some(7), "others still get in");

    // What was changed is taken back to the byte.
    site.run("boreas", "/usr/local/bin/bastide ssh teardown");
    let after = site.run(
        "boreas",
        "cat /etc/ssh/sshd_config /etc/pam.d/sshd; ls /etc/ssh/*",
    );
    assert_eq!(before, after);
    let gone = log_in(&site);
    assert_eq!(gone.status.code(), Some(255), "{}", said(&gone));
    site.down();
}

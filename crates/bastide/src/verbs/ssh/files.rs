//! What is written for `sshd` and PAM, as text, and how it is taken away again.

use std::path::{Path, PathBuf};

use bastide_agent::{SSH_AUTHORITY, SSH_KRL, host_certificate_name};

/// The first line of the file that is ours alone.
const MARK: &str = "# Written by `bastide ssh setup`; `bastide ssh teardown` takes it away.";
const BEGIN: &str = "# begin of what `bastide ssh setup --otp` wrote";
const END: &str = "# end of what `bastide ssh setup --otp` wrote";

/// What the file for `sshd` says.
pub struct DropIn<'d> {
    /// This program.
    pub program: &'d Path,
    /// Where the agent keeps what `sshd` reads.
    pub folder: &'d Path,
    /// This node's id.
    pub node: &'d str,
    /// The public halves of this host's keys.
    pub host_keys: &'d [PathBuf],
    /// Whether one-time passwords are taken.
    pub passwords: Passwords,
}

/// Whether one-time passwords are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passwords {
    /// Certificates alone.
    No,
    /// One-time passwords too.
    OneTime,
}

impl DropIn<'_> {
    /// Returns what is said, and as `sshd -T` repeats it.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let folder = self.folder.display();
        let mut settings = vec![
            ("TrustedUserCAKeys", format!("{folder}/{SSH_AUTHORITY}")),
            ("RevokedKeys", format!("{folder}/{SSH_KRL}")),
            (
                "AuthorizedPrincipalsCommand",
                format!("{} ssh-principals {} %u", self.program.display(), self.node),
            ),
            ("AuthorizedPrincipalsCommandUser", "nobody".to_owned()),
        ];
        for key in self.host_keys {
            let name = host_certificate_name(key);
            settings.push(("HostCertificate", format!("{folder}/{name}")));
        }
        if self.passwords == Passwords::OneTime {
            // Were `password` offered too, PAM would be asked twice, and the second time the password
            // is spent.
            for (name, value) in [
                ("UsePAM", "yes"),
                ("KbdInteractiveAuthentication", "yes"),
                ("PasswordAuthentication", "no"),
            ] {
                settings.push((name, value.to_owned()));
            }
        }
        settings
    }

    /// Returns the file.
    pub fn text(&self) -> String {
        let lines = self.settings().into_iter();
        let lines = lines.map(|(name, value)| format!("{name} {value}\n"));
        format!("{MARK}\n{}", lines.collect::<String>())
    }

    /// Returns the first setting that `sshd -T` does not repeat: something read earlier says otherwise.
    pub fn overruled(&self, effective: &str) -> Option<&'static str> {
        let holds = |name: &str, value: &str| {
            let line = format!("{} {value}", name.to_ascii_lowercase());
            effective.lines().any(|known| known == line)
        };
        let settings = self.settings().into_iter();
        settings
            .filter(|(name, value)| !holds(name, value))
            .map(|(name, _)| name)
            .next()
    }
}

/// Returns whether a file is ours.
pub fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

/// Returns what a host's `sshd` does already that would end if we did it, as `sshd -T` tells it.
pub fn in_the_way(effective: &str) -> Option<(&str, &str)> {
    const OURS: &[&str] = &[
        "trustedusercakeys",
        "revokedkeys",
        "authorizedprincipalscommand",
        "authorizedprincipalsfile",
        "hostcertificate",
    ];
    effective
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, value)| OURS.contains(name) && *value != "none")
}

/// Returns the public halves of the host keys that `sshd -T` tells of.
pub fn host_keys(effective: &str) -> Vec<PathBuf> {
    effective
        .lines()
        .filter_map(|line| line.strip_prefix("hostkey "))
        .map(|path| PathBuf::from(format!("{path}.pub")))
        .collect()
}

/// Returns PAM's file for `sshd` with our block before all else: who has a one-time password is let
/// in, nobody else is asked for another one.
///
/// The second line ends the stack. The first cannot: `sshd` calls `pam_setcred` too, which plays the
/// stack as it went, and there `pam_exec` has no answer; a stack without any is refused.
pub fn with_block(text: &str, program: &Path) -> String {
    let rest = without_block(text);
    let program = program.display();
    format!(
        "{BEGIN}\nauth requisite pam_exec.so quiet expose_authtok {program} ssh-pam\nauth \
         [success=done default=die] pam_permit.so\n{END}\n{rest}"
    )
}

/// Returns PAM's file without our block, every other byte as it was.
pub fn without_block(text: &str) -> String {
    let mut inside = false;
    let mut rest = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match line.trim_end() {
            BEGIN => inside = true,
            END if inside => inside = false,
            _ if inside => {}
            _ => rest.push_str(line),
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAM: &str = "# PAM\n@include common-auth\naccount required pam_nologin.so\n";

    fn drop_in(passwords: Passwords) -> DropIn<'static> {
        DropIn {
            program: Path::new("/usr/local/bin/bastide"),
            folder: Path::new("/var/lib/bastide/agent/ssh"),
            node: "0a0b",
            host_keys: &[],
            passwords,
        }
    }

    #[test]
    fn what_is_written_into_pam_is_taken_out_to_the_byte() {
        let program = Path::new("/usr/local/bin/bastide");
        let with = with_block(PAM, program);
        assert!(with.starts_with("# begin"), "{with}");
        assert!(with.contains("/usr/local/bin/bastide ssh-pam\n"));
        assert_eq!(without_block(&with), PAM);
        assert_eq!(with_block(&with, program), with, "twice is once");
        let changed = with.replace("common-auth", "other");
        assert_eq!(without_block(&changed), PAM.replace("common-auth", "other"));
        assert_eq!(without_block("no end of line"), "no end of line");
    }

    #[test]
    fn a_setting_that_something_earlier_overrules_is_found() {
        let drop_in = drop_in(Passwords::OneTime);
        assert!(is_ours(&drop_in.text()));
        let effective: Vec<_> = drop_in
            .settings()
            .into_iter()
            .map(|(name, value)| format!("{} {value}", name.to_ascii_lowercase()))
            .collect();
        let effective = effective.join("\n");
        assert_eq!(drop_in.overruled(&effective), None);
        let other = effective.replace("passwordauthentication no", "passwordauthentication yes");
        assert_eq!(drop_in.overruled(&other), Some("PasswordAuthentication"));
        let plain = super::tests::drop_in(Passwords::No);
        assert!(!plain.text().contains("UsePAM"));
    }

    #[test]
    fn another_authority_is_in_the_way_and_none_is_not() {
        let effective = "port 22\ntrustedusercakeys none\nrevokedkeys none\n\
                         hostkey /etc/ssh/ssh_host_ed25519_key\n";
        assert_eq!(in_the_way(effective), None);
        let other = effective.replace("trustedusercakeys none", "trustedusercakeys /etc/ssh/ca");
        assert_eq!(
            in_the_way(&other),
            Some(("trustedusercakeys", "/etc/ssh/ca"))
        );
        let keys = [PathBuf::from("/etc/ssh/ssh_host_ed25519_key.pub")];
        assert_eq!(host_keys(effective), keys);
    }
}

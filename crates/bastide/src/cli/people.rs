//! Arguments of what people do with secrets.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Format;

/// Which server, if it is not the one of this host.
#[derive(Debug, Clone, Default, Args)]
pub struct At {
    /// The server, such as `https://203.0.113.5:8200` [default: `VAULT_ADDR`, else where one logged in,
    /// else the controller on this host]
    #[arg(long, value_name = "URL")]
    pub address: Option<String>,
    /// A file with the cluster's CA, the controller's `/etc/bastide/ca.pem` [default: `VAULT_CACERT`]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// `bastide login`
#[derive(Debug, Args)]
pub struct Login {
    /// How: userpass, ldap, approle, jwt, oidc or token
    #[arg(default_value = "userpass")]
    pub method: LoginMethod,
    /// The user's name; for approle the role id, for jwt and oidc the role
    pub name: Option<String>,
    /// For oidc: the port of this machine's loopback that the browser comes back to; 0 is any
    #[arg(long, default_value_t = 8250)]
    pub port: u16,
    /// Where the method is mounted, below `auth/` [default: its kind]
    #[arg(long)]
    pub mount: Option<String>,
    /// Which server
    #[command(flatten)]
    pub at: At,
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoginMethod {
    /// With name and password
    Userpass,
    /// With name and password of a directory
    Ldap,
    /// With a role id and a secret id
    Approle,
    /// With a signed token of another service
    Jwt,
    /// By a browser, at another service
    Oidc,
    /// With a token that somebody gave
    Token,
}

impl LoginMethod {
    /// Returns where it is mounted, if nothing else is said.
    pub fn mount(self) -> &'static str {
        match self {
            Self::Userpass => "userpass",
            Self::Ldap => "ldap",
            Self::Approle => "approle",
            Self::Jwt => "jwt",
            Self::Oidc => "oidc",
            Self::Token => "token",
        }
    }
}

/// `bastide secret`
#[derive(Debug, Subcommand)]
pub enum SecretVerb {
    /// Show a secret's fields, or one field's value alone
    Get {
        /// The secret, such as `secret/app/db`
        path: String,
        /// Print this field's value, and nothing else
        field: Option<String>,
        /// Which version [default: the last]
        #[arg(long)]
        version: Option<u64>,
        /// Show the values of all fields
        #[arg(long)]
        show: bool,
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Write a secret: all its fields, or some with --patch
    Put {
        /// The secret, such as `secret/app/db`
        path: String,
        /// `KEY` is asked for, `KEY=-` comes from standard input, `KEY=@FILE` from a file, `-` or
        /// `@FILE` alone is a JSON object; `KEY=VALUE` can be seen by others on this machine
        #[arg(required = true)]
        fields: Vec<String>,
        /// Change these fields, and keep the others
        #[arg(long)]
        patch: bool,
        /// Write only if this is the version that is there; 0: none is
        #[arg(long)]
        cas: Option<u64>,
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// List what is below a path
    #[command(visible_alias = "ls")]
    List {
        /// The path [default: the mounts]
        path: Option<String>,
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Delete a secret; its older versions can be read until `--all`
    Rm {
        /// The secret
        path: String,
        /// Delete all versions and all that is known of it, for good
        #[arg(long)]
        all: bool,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Change a secret in `$EDITOR`
    Edit {
        /// The secret
        path: String,
        /// Which server
        #[command(flatten)]
        at: At,
    },
}

/// `bastide policy`
#[derive(Debug, Subcommand)]
pub enum PolicyVerb {
    /// Tell whether a request is allowed, and which line decides: of a file alone, or as a user of the
    /// server, with the file in the place of the policy of its name
    Check {
        /// `[FILE] METHOD PATH [FIELD=VALUE...]`, such as `app.hcl GET secret/data/app/db`
        #[arg(required = true, value_name = "WORDS")]
        words: Vec<String>,
        /// As this user of userpass, or `MOUNT/NAME` of another mount
        #[arg(long = "as", value_name = "USER")]
        user: Option<String>,
        /// For how long the answer is to be wrapped, such as `5m` [default: not at all]
        #[arg(long, value_name = "TTL")]
        wrap: Option<String>,
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// List policies
    Ls {
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Print a policy
    Get {
        /// Its name
        name: String,
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Write a policy
    Put {
        /// Its name
        name: String,
        /// The file, or `-` for standard input
        file: PathBuf,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Delete a policy
    Rm {
        /// Its name
        name: String,
        /// Which server
        #[command(flatten)]
        at: At,
    },
}

/// `bastide lease`
#[derive(Debug, Subcommand)]
pub enum LeaseVerb {
    /// List leases and the folders of them
    Ls {
        /// Below this prefix, such as `auth/userpass/login/`
        #[arg(default_value = "")]
        prefix: String,
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Renew a lease
    Renew {
        /// Its id
        id: String,
        /// For how many seconds [default: as its engine says]
        #[arg(long)]
        increment: Option<u64>,
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// End a lease, and undo what it stood for
    Revoke {
        /// Its id, or with --prefix what the ids begin with
        id: String,
        /// All leases below it
        #[arg(long)]
        prefix: bool,
        /// Forget it even if what it stood for cannot be undone
        #[arg(long, requires = "prefix")]
        force: bool,
        /// Which server
        #[command(flatten)]
        at: At,
    },
}

/// `bastide user`
#[derive(Debug, Subcommand)]
pub enum UserVerb {
    /// Make somebody, or give somebody another password; it is asked for
    Put {
        /// The name
        name: String,
        /// What somebody who logs in may do; left out, it stays
        #[arg(long = "policy", value_name = "POLICY")]
        policies: Vec<String>,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// List names
    Ls {
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Let somebody log in no more
    Rm {
        /// The name
        name: String,
        /// Which server
        #[command(flatten)]
        at: At,
    },
}

/// `bastide token`
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make a token, and print it
    Create {
        /// A policy that it has (repeatable) [default: those of one's own token]
        #[arg(long = "policy")]
        policies: Vec<String>,
        /// For how long, such as 1h
        #[arg(long)]
        ttl: Option<String>,
        /// Renewed within this time it never ends
        #[arg(long)]
        period: Option<String>,
        /// How often it can be used
        #[arg(long)]
        uses: Option<u64>,
        /// Let it live on when one's own token ends
        #[arg(long)]
        orphan: bool,
        /// A name for people
        #[arg(long)]
        name: Option<String>,
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Tell what is known of one's own token
    #[command(name = "self")]
    Own {
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Tell what is known of a token, which is read from standard input
    Lookup {
        /// By its accessor
        #[arg(long)]
        accessor: Option<String>,
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Renew one's own token, or another by its accessor
    Renew {
        /// By its accessor
        #[arg(long)]
        accessor: Option<String>,
        /// For how many seconds
        #[arg(long)]
        increment: Option<u64>,
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// End a token and all that it made; the token is read from standard input
    Revoke {
        /// By its accessor
        #[arg(long, conflicts_with = "own")]
        accessor: Option<String>,
        /// One's own
        #[arg(long = "self")]
        own: bool,
        /// Which server
        #[command(flatten)]
        at: At,
    },
}

/// `bastide audit`
#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// Show the last requests: when, who, what, and what became of it
    Tail {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: usize,
        /// Go on with what comes
        #[arg(short, long)]
        follow: bool,
        /// Which records
        #[command(flatten)]
        of: AuditOf,
    },
    /// Show the requests that match
    Search {
        /// Whose path begins with this
        #[arg(long)]
        path: Option<String>,
        /// Of this user, role or node, by the name that the log shows
        #[arg(long)]
        who: Option<String>,
        /// That were refused
        #[arg(long)]
        refused: bool,
        /// That hold a value, which is read from standard input and looked for by its keyed hash
        #[arg(long)]
        value: bool,
        /// Which server hashes the value
        #[command(flatten)]
        at: At,
        /// Which records
        #[command(flatten)]
        of: AuditOf,
    },
    /// Verify that no line was cut, changed, moved or put back, offline
    Verify {
        /// A checkpoint: a signed note, or what an agent keeps [default: that of this host's agent]
        #[arg(long)]
        checkpoint: Vec<PathBuf>,
        /// The key that signs checkpoints, as `bastide audit key` prints it
        #[arg(long)]
        key: Option<String>,
        /// Which records
        #[command(flatten)]
        of: AuditOf,
    },
    /// Print the key that signs checkpoints; keep it apart from the controller
    Key {
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// Print a signed checkpoint of the log as it is now
    Checkpoint {
        /// Which server
        #[command(flatten)]
        at: At,
    },
    /// List the audit devices
    Ls {
        /// How to print
        #[command(flatten)]
        format: Format,
        /// Which server
        #[command(flatten)]
        at: At,
    },
}

/// Which records, and how to show them.
#[derive(Debug, Args)]
pub struct AuditOf {
    /// The log's files, oldest or newest first [default: this controller's, with those rotated away]
    pub files: Vec<PathBuf>,
    /// How to print
    #[command(flatten)]
    pub format: Format,
}

/// `bastide completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    pub shell: Shell,
}

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// `bastide complete`
#[derive(Debug, Args)]
pub struct Complete {
    /// The words of the line after the program, the one to complete last
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

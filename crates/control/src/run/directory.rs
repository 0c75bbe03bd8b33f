//! Directories of others, by LDAP: who somebody is, whether his password is right, and his groups.

use std::sync::Arc;
use std::time::Duration;

use bastide_api::Secret;
use bastide_linux::clock::Clock;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use zeroize::Zeroize;

use crate::core::auth::ldap::filter::Filter;
use crate::core::auth::ldap::names::common_name;
use crate::core::auth::ldap::wire::{
    Ask, Entry, INVALID_CREDENTIALS, MESSAGE_BYTES_MAX, NO_SUCH_OBJECT, SIZE_LIMIT, SUCCESS, Scope,
    Told, read,
};
use crate::core::auth::ldap::{
    Config, Directory, Found, Proof, Server, Tls, Versions, WRONG, message_length,
};
use crate::core::outside::{answered, failed};
use crate::core::refusal::Refusal;
use crate::run::trust::{client_config, why_no_tls};

/// Questions at a time, and how many may wait; beyond it logins are refused.
const AT_ONCE: usize = 16;
const WAITING_MAX: usize = 128;
/// Most groups of somebody.
const GROUPS_MAX: u32 = 1024;
/// Most bytes that a directory may answer to one question.
const ANSWERS_BYTES_MAX: usize = 8 << 20;

/// Asks directories, some at a time.
pub struct Directories {
    turns: Semaphore,
    waiting: Semaphore,
}

impl Default for Directories {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }
}

impl Directories {
    /// Asks a directory. What goes wrong there, a wrong password too, is part of the result. Cancel
    /// safe.
    pub async fn ask(
        &self,
        question: Directory,
        clock: &Clock,
    ) -> Result<Secret<Vec<u8>>, Refusal> {
        let busy = || Refusal::Unavailable("too many logins wait".to_owned());
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let _turn = self.turns.acquire().await.map_err(|_| busy())?;
        Ok(match find(&question, clock).await {
            Ok(found) => {
                let text = serde_json::to_vec(&found).expect("stored types are plain JSON");
                answered(&text)
            }
            Err(why) => {
                tracing::debug!(%why, "a directory did not say who somebody is");
                failed(&why)
            }
        })
    }
}

async fn find(question: &Directory, clock: &Clock) -> Result<Found, String> {
    let config = &question.config;
    let secs = config.request_timeout + config.connection_timeout;
    let by = Instant::now() + Duration::from_secs(secs);
    let servers = config.servers().unwrap_or_default();
    let mut last = "no server is configured".to_owned();
    for server in servers {
        let patience = Duration::from_secs(config.connection_timeout);
        let until = by.min(Instant::now() + patience);
        match timeout_at(until, connect(&server, config, clock)).await {
            Ok(Ok(mut connection)) => {
                let found = timeout_at(by, identify(&mut connection, question)).await;
                connection.leave().await;
                return found.unwrap_or_else(|_| Err("the directory took too long".to_owned()));
            }
            Ok(Err(why)) => last = why,
            Err(_) => "it took too long".clone_into(&mut last),
        }
    }
    Err(format!("failed to connect to the directory: {last}"))
}

/// Whatever an LDAP connection runs on.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

struct Connection {
    wire: Box<dyn Wire>,
    number: u32,
    secs_max: u32,
    /// How many bytes came.
    came: usize,
}

async fn connect(server: &Server, config: &Config, clock: &Clock) -> Result<Connection, String> {
    let socket = TcpStream::connect((server.host.as_str(), server.port))
        .await
        .map_err(|error| error.kind().to_string())?;
    let plain = Connection {
        wire: Box::new(socket),
        number: 0,
        secs_max: config.request_timeout.try_into().unwrap_or(90),
        came: 0,
    };
    match server.tls {
        Tls::No => Ok(plain),
        Tls::First => plain.secured(server, config, clock).await,
        Tls::Start => {
            let mut plain = plain;
            match plain.ask(&Ask::StartTls).await? {
                SUCCESS => plain.secured(server, config, clock).await,
                result => Err(format!(
                    "the directory refused StartTLS with result {result}"
                )),
            }
        }
    }
}

impl Connection {
    /// Goes on under TLS. Nothing that came before it is left unread, because messages are read to
    /// their last byte and no further: what somebody put between counts as TLS, and fails.
    async fn secured(
        self,
        server: &Server,
        config: &Config,
        clock: &Clock,
    ) -> Result<Self, String> {
        let versions: &[&'static SupportedProtocolVersion] = match config.tls_versions() {
            Versions::Tls12 => &[&TLS12],
            Versions::Tls13 => &[&TLS13],
            Versions::Both => &[&TLS13, &TLS12],
        };
        let tls = client_config(&config.certificate, versions, clock)?;
        let name = ServerName::try_from(server.host.clone())
            .map_err(|_| "the server's name is not one".to_owned())?;
        let stream = TlsConnector::from(Arc::new(tls))
            .connect(name, self.wire)
            .await
            .map_err(|error| why_no_tls(&error))?;
        Ok(Self {
            wire: Box::new(stream),
            ..self
        })
    }

    async fn send(&mut self, ask: &Ask<'_>) -> Result<u32, String> {
        self.number += 1;
        let mut message = ask.message(self.number);
        let sent = self.wire.write_all(&message).await;
        message.zeroize();
        sent.map_err(|error| error.kind().to_string())?;
        let flushed = self.wire.flush().await;
        flushed.map_err(|error| error.kind().to_string())?;
        Ok(self.number)
    }

    /// Reads a message to its end, and no further.
    async fn message(&mut self) -> Result<Vec<u8>, String> {
        let lost = |error: std::io::Error| format!("the connection was lost: {}", error.kind());
        let wrong = || "what the directory answered is no LDAP".to_owned();
        let mut message = Vec::new();
        let length = loop {
            if let Some(length) = message_length(&message).map_err(|_| wrong())? {
                break length;
            }
            message.push(self.wire.read_u8().await.map_err(lost)?);
        };
        self.came = self.came.saturating_add(length);
        if MESSAGE_BYTES_MAX < length || ANSWERS_BYTES_MAX < self.came {
            return Err("the directory answered too much".to_owned());
        }
        let head = message.len();
        message.resize(length.max(head), 0);
        self.wire
            .read_exact(&mut message[head..])
            .await
            .map_err(lost)?;
        Ok(message)
    }

    async fn told(&mut self, number: u32) -> Result<Told, String> {
        let message = self.message().await?;
        match read(&message) {
            Ok((of, told)) if of == number => Ok(told),
            // Number 0 is a notice that the directory hangs up.
            Ok(_) => Err("the directory answered something else".to_owned()),
            Err(_) => Err("what the directory answered is no LDAP".to_owned()),
        }
    }

    /// Asks something that has one answer, and returns its result.
    async fn ask(&mut self, ask: &Ask<'_>) -> Result<u32, String> {
        let number = self.send(ask).await?;
        match self.told(number).await? {
            Told::Done(result) => Ok(result),
            Told::Entry(_) | Told::Elsewhere => {
                Err("the directory answered something else".to_owned())
            }
        }
    }

    async fn search(
        &mut self,
        base: &str,
        scope: Scope,
        filter: &Filter,
        attributes: &[&str],
        size_limit: u32,
    ) -> Result<Vec<Entry>, String> {
        let ask = Ask::Search {
            base,
            scope,
            filter,
            attributes,
            size_limit,
            secs_max: self.secs_max,
        };
        let number = self.send(&ask).await?;
        let mut found = Vec::new();
        loop {
            match self.told(number).await? {
                Told::Entry(entry) => {
                    if usize::try_from(size_limit).unwrap_or(usize::MAX) <= found.len() {
                        return Err("the directory answered too much".to_owned());
                    }
                    found.push(entry);
                }
                Told::Elsewhere => {}
                Told::Done(SUCCESS | NO_SUCH_OBJECT | SIZE_LIMIT) => return Ok(found),
                Told::Done(result) => {
                    return Err(format!(
                        "the directory refused a search with result {result}"
                    ));
                }
            }
        }
    }

    async fn leave(&mut self) {
        let polite = Instant::now() + Duration::from_millis(200);
        let _ = timeout_at(polite, self.send(&Ask::Unbind)).await;
    }
}

/// Takes the name and password that an operator gave, to look around; without them one is nobody.
async fn be_operator(connection: &mut Connection, config: &Config) -> Result<(), String> {
    if config.binddn.is_empty() {
        return Ok(());
    }
    let bind = Ask::Bind {
        dn: &config.binddn,
        password: &config.bindpass,
    };
    match connection.ask(&bind).await? {
        SUCCESS => Ok(()),
        result => Err(format!(
            "the directory refused `binddn` with result {result}"
        )),
    }
}

async fn identify(connection: &mut Connection, question: &Directory) -> Result<Found, String> {
    let config = &question.config;
    let username = question.username.as_str();
    let wrong = || WRONG.to_owned();
    let name = match config.proof(username).ok_or_else(wrong)? {
        Proof::Name(name) => name,
        Proof::Search(filter) => {
            be_operator(connection, config).await?;
            let base = config.user_base();
            let found = connection
                .search(base, Scope::Subtree, &filter, &["1.1"], 2)
                .await?;
            // Of two that fit, nobody can say who is meant.
            match <[Entry; 1]>::try_from(found) {
                Ok([entry]) if !entry.dn.is_empty() => entry.dn,
                _ => return Err(wrong()),
            }
        }
    };
    if let Some(password) = &question.password {
        prove(connection, &name, password).await?;
        // Groups may be seen by the operator's name alone.
        if config.anonymous_group_search {
            let nobody = Ask::Bind {
                dn: "",
                password: "",
            };
            connection.ask(&nobody).await?;
        } else {
            be_operator(connection, config).await?;
        }
    }
    let dn = match config.principal_filter(username) {
        Some(filter) if !config.finds_people() => {
            let base = config.user_base();
            let found = connection
                .search(base, Scope::Subtree, &filter, &["1.1"], 2)
                .await?;
            match <[Entry; 1]>::try_from(found) {
                Ok([entry]) => entry.dn,
                Err(_) => return Err("the directory does not tell the user's entry".to_owned()),
            }
        }
        _ => name,
    };
    Ok(Found {
        alias: alias(connection, config, username, &dn).await?,
        groups: groups(connection, config, username, &dn).await?,
        dn,
    })
}

/// Tries a password. An empty one never comes here, nor may an empty name: both would be a bind of
/// nobody, which succeeds.
async fn prove(
    connection: &mut Connection,
    dn: &str,
    password: &Secret<String>,
) -> Result<(), String> {
    if dn.is_empty() || password.expose().is_empty() {
        return Err(WRONG.to_owned());
    }
    let bind = Ask::Bind {
        dn,
        password: password.expose(),
    };
    match connection.ask(&bind).await? {
        SUCCESS => Ok(()),
        // Which of these it was tells strangers who there is (CVE-2023-3462).
        INVALID_CREDENTIALS | NO_SUCH_OBJECT => Err(WRONG.to_owned()),
        result => {
            tracing::debug!(result, "a directory refused a password");
            Err(WRONG.to_owned())
        }
    }
}

/// Returns what the directory calls somebody; the name that he typed if it does not tell.
async fn alias(
    connection: &mut Connection,
    config: &Config,
    username: &str,
    dn: &str,
) -> Result<String, String> {
    if config.username_as_alias {
        return Ok(username.to_owned());
    }
    let attribute = config.user_attribute();
    let any = Filter::Present("objectClass".to_owned());
    let found = connection
        .search(dn, Scope::Base, &any, &[attribute], 1)
        .await?;
    let values: Vec<&str> = found
        .iter()
        .flat_map(|entry| entry.all(attribute))
        .collect();
    // Of several names, the one that was typed is his; otherwise the first.
    let typed = values
        .iter()
        .find(|value| value.eq_ignore_ascii_case(username));
    let alias = typed.or(values.first());
    Ok(alias.map_or_else(|| username.to_owned(), |alias| (*alias).to_owned()))
}

async fn groups(
    connection: &mut Connection,
    config: &Config,
    username: &str,
    dn: &str,
) -> Result<Vec<String>, String> {
    let Some(base) = config.group_base() else {
        return Ok(Vec::new());
    };
    let filter = config
        .group_filter(username, dn)
        .ok_or_else(|| WRONG.to_owned())?;
    let attribute = config.group_attribute();
    let found = connection
        .search(base, Scope::Subtree, &filter, &[attribute], GROUPS_MAX)
        .await?;
    let mut groups = Vec::new();
    for entry in found {
        let before = groups.len();
        groups.extend(
            entry
                .all(attribute)
                .map(|value| common_name(value).unwrap_or_else(|| value.to_owned())),
        );
        if groups.len() == before {
            groups.extend(common_name(&entry.dn));
        }
    }
    groups.sort();
    groups.dedup();
    groups.truncate(usize::try_from(GROUPS_MAX).unwrap_or(usize::MAX));
    Ok(groups)
}

#[cfg(test)]
mod tests;

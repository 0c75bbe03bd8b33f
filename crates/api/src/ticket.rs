//! The ticket: what a machine needs in order to join, and nothing that works twice.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use zeroize::Zeroize;

use crate::ids::{base32_decode, base32_encode};
use crate::{ClusterId, Secret, TicketId, UnixTime};

/// Most controllers that a ticket names.
pub const CONTROLLERS_MAX: usize = 4;

const PREFIX: &str = "bst1-";
const VERSION: u8 = 1;

/// SHA-256 of the cluster CA's public key (its DER `SubjectPublicKeyInfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaPin(pub [u8; 32]);

/// A ticket: where the controllers are, how to know them, and a secret that one node may spend.
///
/// Printed as `bst1-` and base32 of: version, cluster, count and addresses of the controllers, pin,
/// ticket id, secret, expiry in ms, and a checksum (Fletcher-32, against typing errors alone: a
/// wrong secret is refused by the controller).
pub struct Ticket {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Where controllers answer, 1 to [`CONTROLLERS_MAX`].
    pub controllers: Vec<SocketAddr>,
    /// The CA that the controllers' certificates must chain to.
    pub pin: CaPin,
    /// Which ticket this is.
    pub id: TicketId,
    /// What proves possession.
    pub secret: Secret<[u8; 32]>,
    /// When it ends.
    pub expires: UnixTime,
}

/// Why a text is not a ticket. Never shows the text: it holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not begin as tickets do.
    #[error("a ticket begins with `bst1-`")]
    Prefix,
    /// A character is not base32.
    #[error("the ticket holds a character that tickets do not have")]
    Encoding,
    /// It was cut or mistyped.
    #[error("the ticket is incomplete or mistyped: its checksum does not match")]
    Checksum,
    /// It is of a later program.
    #[error("the ticket is of version {0}, which this program does not know")]
    Version(u8),
    /// Its fields do not fit together.
    #[error("the ticket's fields do not fit together")]
    Fields,
}

impl Ticket {
    /// Prints the ticket. It holds the secret: show it to the person who asked, and nowhere else.
    pub fn reveal(&self) -> Secret<String> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(self.cluster.as_bytes());
        bytes.push(u8::try_from(self.controllers.len()).unwrap_or(u8::MAX));
        for controller in &self.controllers {
            match controller.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&controller.port().to_be_bytes());
        }
        bytes.extend_from_slice(&self.pin.0);
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(self.secret.expose());
        bytes.extend_from_slice(&self.expires.as_millis().to_be_bytes());
        bytes.extend_from_slice(&fletcher32(&bytes).to_be_bytes());
        let text = format!("{PREFIX}{}", base32_encode(&bytes));
        bytes.zeroize();
        Secret::new(text)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let body = text
            .trim()
            .strip_prefix(PREFIX)
            .ok_or(TicketError::Prefix)?;
        // Cut off somewhere, the last letter may hold bits of a byte that is missing.
        let is_of_letters = body
            .bytes()
            .all(|letter| letter.is_ascii_alphanumeric() && !letter.eq_ignore_ascii_case(&b'u'));
        let wrong = if is_of_letters {
            TicketError::Checksum
        } else {
            TicketError::Encoding
        };
        let mut bytes = base32_decode(body).ok_or(wrong)?;
        let ticket = parse(&bytes);
        bytes.zeroize();
        ticket
    }
}

fn parse(bytes: &[u8]) -> Result<Ticket, TicketError> {
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or(TicketError::Checksum)?;
    if fletcher32(body).to_be_bytes() != *sum {
        return Err(TicketError::Checksum);
    }
    let mut rest = Reader(body);
    match rest.take::<1>()? {
        [VERSION] => {}
        [other] => return Err(TicketError::Version(other)),
    }
    let cluster = ClusterId::from_bytes(rest.take()?);
    let [count] = rest.take()?;
    if count == 0 || CONTROLLERS_MAX < usize::from(count) {
        return Err(TicketError::Fields);
    }
    let controllers = (0..count)
        .map(|_| {
            let ip = match rest.take::<1>()? {
                [4] => IpAddr::V4(Ipv4Addr::from(rest.take::<4>()?)),
                [6] => IpAddr::V6(Ipv6Addr::from(rest.take::<16>()?)),
                _ => return Err(TicketError::Fields),
            };
            Ok(SocketAddr::new(ip, u16::from_be_bytes(rest.take()?)))
        })
        .collect::<Result<_, _>>()?;
    let pin = CaPin(rest.take()?);
    let id = TicketId::from_bytes(rest.take()?);
    let secret = Secret::new(rest.take::<32>()?);
    let expires = UnixTime::from_millis(u64::from_be_bytes(rest.take()?));
    if !rest.0.is_empty() {
        return Err(TicketError::Fields);
    }
    Ok(Ticket {
        cluster,
        controllers,
        pin,
        id,
        secret,
        expires,
    })
}

/// Prints bytes as a ticket's, with the checksum that fits.
#[cfg(any(test, bastide_fuzz))]
pub(crate) fn text_of(body: &[u8]) -> String {
    let bytes = [body, &fletcher32(body).to_be_bytes()].concat();
    format!("{PREFIX}{}", base32_encode(&bytes))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], TicketError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(TicketError::Fields)?;
        self.0 = rest;
        Ok(*head)
    }
}

/// Fletcher-32 over bytes (J. G. Fletcher, 1982), here with modulus 65,535 on single bytes.
fn fletcher32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), &byte| {
        let low = (low + u32::from(byte)) % 65_535;
        (low, (high + low) % 65_535)
    });
    high << 16 | low
}

#[cfg(test)]
mod tests;

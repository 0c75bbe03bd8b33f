//! For how long certificates are good.

use std::time::Duration;

use bastide_api::UnixTime;

use super::stored::LeafBehavior;
use crate::core::fields::{Fields, go_duration};
use crate::core::refusal::Refusal;

/// Reads a time in RFC 3339, such as `2027-01-31T00:00:00Z`.
pub fn parse_time(text: &str) -> Result<UnixTime, Refusal> {
    let wrong = || {
        Refusal::invalid(format!(
            "\"{text}\" is not a time such as 2027-01-31T00:00:00Z"
        ))
    };
    let (date, zone) = text.split_at_checked(19).ok_or_else(wrong)?;
    let zone = match zone.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => zone,
    };
    let marks = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        10 => byte == b'T' || byte == b't',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    });
    if !marks {
        return Err(wrong());
    }
    let digits: String = date.chars().filter(char::is_ascii_digit).collect();
    let text = format!("{digits}Z");
    let local = bastide_pki::x509::der::read_time(
        bastide_pki::x509::der::GENERALIZED_TIME,
        text.as_bytes(),
    )
    .map_err(|_| wrong())?;
    if zone == "Z" || zone == "z" {
        return Ok(local);
    }
    let (sign, rest) = zone.split_at_checked(1).ok_or_else(wrong)?;
    let (hours, minutes) = rest.split_once(':').ok_or_else(wrong)?;
    let (Ok(hours), Ok(minutes)) = (hours.parse::<u64>(), minutes.parse::<u64>()) else {
        return Err(wrong());
    };
    if 23 < hours || 59 < minutes {
        return Err(wrong());
    }
    let offset = Duration::from_secs(hours * 3600 + minutes * 60);
    match sign {
        "+" => {
            Ok(UnixTime::from_millis(local.as_millis().saturating_sub(
                u64::try_from(offset.as_millis()).unwrap_or(0),
            )))
        }
        "-" => Ok(local.plus(offset)),
        _ => Err(wrong()),
    }
}

/// A time as Go prints it: RFC 3339 without a fraction that is zero.
pub fn go_time(at: UnixTime) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => text,
    }
}

/// What bounds a certificate's life.
pub struct Bounds {
    /// Now.
    pub now: UnixTime,
    /// How long, where the request does not say.
    pub ttl: Duration,
    /// How long at most.
    pub ttl_max: Duration,
    /// When it ends at the latest, and where the request does not say, where the operator has said so.
    pub not_after: Option<UnixTime>,
    /// Whether a time that the request names is bounded as well. Not for authorities: whoever makes one
    /// is its operator.
    pub is_leaf: bool,
}

impl Bounds {
    /// Decides when a certificate ends; what was cut is told. Whole seconds, and never at once.
    pub fn decide(
        &self,
        fields: Fields<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<UnixTime, Refusal> {
        let asked = fields.duration("ttl")?;
        let not_after = fields.text("not_after")?.filter(|text| !text.is_empty());
        let is_given = not_after.is_some() || self.not_after.is_some();
        if asked.is_some_and(|ttl| !ttl.is_zero()) && is_given {
            return Err(Refusal::invalid(
                "Either ttl or not_after should be provided. Both should not be provided in the \
                 same request.",
            ));
        }
        let latest = self.now.plus(self.ttl_max);
        let ends = if let Some(text) = not_after {
            let asked = parse_time(&text)?;
            let at = self.not_after.map_or(asked, |latest| asked.min(latest));
            if at < asked {
                warnings.push(format!(
                    "not_after {text} is later than the role's, so the role's is being used"
                ));
            }
            if self.is_leaf && latest < at {
                warnings.push(format!(
                    "not_after {text} is later than permitted by maxTTL \"{}\", so maxTTL is being \
                     used",
                    go_duration(self.ttl_max)
                ));
                latest
            } else {
                at
            }
        } else if let Some(ttl) = asked.filter(|ttl| !ttl.is_zero()) {
            if self.ttl_max < ttl {
                warnings.push(format!(
                    "TTL \"{}\" is longer than permitted maxTTL \"{}\", so maxTTL is being used",
                    go_duration(ttl),
                    go_duration(self.ttl_max)
                ));
            }
            self.now.plus(ttl.min(self.ttl_max))
        } else if let Some(at) = self.not_after {
            at
        } else {
            self.now.plus(self.ttl.min(self.ttl_max))
        };
        let ends = UnixTime::from_millis(ends.as_secs() * 1000);
        if ends <= self.now {
            return Err(Refusal::invalid(
                "certificate would end at once: ask for a ttl of a second or more",
            ));
        }
        Ok(ends.min(bastide_pki::x509::der::TIME_MAX))
    }
}

/// Holds a certificate's end against its issuer's.
pub fn within_issuer(
    ends: UnixTime,
    issuer_ends: UnixTime,
    now: UnixTime,
    behavior: LeafBehavior,
) -> Result<UnixTime, Refusal> {
    if ends <= issuer_ends || behavior == LeafBehavior::Permit {
        return Ok(ends);
    }
    let refused = || {
        Refusal::invalid(format!(
            "cannot satisfy request, as TTL would result in notAfter of {} that is beyond the \
             expiration of the CA certificate at {}",
            go_time(ends),
            go_time(issuer_ends)
        ))
    };
    // An issuer that has ended issues nothing, cut or not.
    if behavior == LeafBehavior::Err || issuer_ends <= now {
        return Err(refused());
    }
    Ok(issuer_ends)
}

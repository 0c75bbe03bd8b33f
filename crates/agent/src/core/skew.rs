//! A host whose clock is wrong is told so, though the cluster does not mind.

use std::time::Duration;

use bastide_linux::clock::Skew;

/// How far off a host's clock may be without a word.
const SKEW_MAX: Duration = Duration::from_secs(5 * 60);
/// Longer than this is told in days.
const DAYS_FROM: u64 = 2 * 86_400;

/// Returns what is wrong with the host's clock, and what to type; `None` if nothing is.
pub fn trouble(skew: Skew) -> Option<String> {
    let (by, which) = match skew {
        Skew::Behind(by) => (by, "behind"),
        Skew::Ahead(by) => (by, "ahead of"),
    };
    (SKEW_MAX < by).then(|| {
        format!(
            "this host's clock is {} {which} the cluster's: `timedatectl set-ntp true`",
            shown(by.as_secs())
        )
    })
}

fn shown(seconds: u64) -> String {
    if DAYS_FROM <= seconds {
        format!("{} days", (seconds + 43_200) / 86_400)
    } else {
        format!("{} min", (seconds + 30) / 60)
    }
}

#[cfg(test)]
mod tests;

//! The nftables rules that make a node lose packets as bad networks do: without a word.

use std::fmt::Write as _;
use std::net::IpAddr;

/// The table that faults are in.
pub const TABLE: &str = "inet bastide-fault";

/// Packets that a node drops, of those that it forwards or sends itself. Nobody is told: there is no
/// ICMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub which: Which,
    /// Only those to this address, which makes the fault one way; `None` is to all.
    pub to: Option<IpAddr>,
}

/// Which packets a fault concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// IP packets longer than this, bytes. A train of datagrams that nobody has cut up yet counts as
    /// one: `ip link set … gso_max_segs 1` at the sender lets each go alone.
    LongerThan(u16),
    /// So many of a hundred, at random; more than 100 is all.
    Percent(u8),
}

/// Returns the ruleset that puts exactly these faults in the place of those before.
pub fn ruleset(faults: &[Fault]) -> String {
    let mut text = format!("table {TABLE}\ndelete table {TABLE}\n");
    if faults.is_empty() {
        return text;
    }
    let mut rules = String::new();
    for fault in faults {
        rules.push_str("\t\t");
        match fault.to {
            Some(IpAddr::V4(to)) => push(&mut rules, format_args!("ip daddr {to} ")),
            Some(IpAddr::V6(to)) => push(&mut rules, format_args!("ip6 daddr {to} ")),
            None => {}
        }
        match fault.which {
            Which::All => {}
            Which::LongerThan(bytes) => push(&mut rules, format_args!("meta length > {bytes} ")),
            Which::Percent(percent) => {
                push(
                    &mut rules,
                    format_args!("numgen random mod 100 < {} ", percent.min(100)),
                );
            }
        }
        rules.push_str("counter drop\n");
    }
    push(&mut text, format_args!("table {TABLE} {{\n"));
    for hook in ["forward", "output"] {
        push(
            &mut text,
            format_args!(
                "\tchain {hook} {{\n\t\ttype filter hook {hook} priority filter - 100;\n{rules}\t}}\n"
            ),
        );
    }
    text.push_str("}\n");
    text
}

/// Reads how many packets were dropped from what `nft list` prints of the table.
pub fn dropped(listing: &str) -> u64 {
    let words: Vec<&str> = listing.split_whitespace().collect();
    words
        .windows(2)
        .filter(|two| two[0] == "packets")
        .filter_map(|two| two[1].parse::<u64>().ok())
        .sum()
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes all");
}

#[cfg(test)]
mod tests;

//! The nftables rules that make a router translate addresses like the routers people have.

use super::plan::{Nat, NatKind};

/// Returns the ruleset of a router with `nat`.
///
/// Three things are easy to get wrong. A `prerouting` chain of type `nat` must be there, even empty,
/// or replies to translated packets are not translated back. Unsolicited packets must be dropped on
/// the outer interface's *input* hook: otherwise the router itself takes up the connection, holds
/// its port in the connection table, and the packet that an inner host sends a moment later from the
/// same port is given another one, which looks like symmetric mapping. And forwarding inward must
/// be limited to replies, or a host outside that routes to the inner subnet walks in.
pub fn ruleset(nat: &Nat) -> String {
    let wan = &nat.wan;
    let masquerade = match nat.kind {
        NatKind::PortRestricted => "masquerade",
        NatKind::Symmetric => "masquerade fully-random",
    };
    format!(
        "table ip bastide-lab {{\n\
         \tchain prerouting {{\n\
         \t\ttype nat hook prerouting priority dstnat;\n\
         \t}}\n\
         \tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat;\n\
         \t\toifname \"{wan}\" {masquerade}\n\
         \t}}\n\
         \tchain input {{\n\
         \t\ttype filter hook input priority filter;\n\
         \t\tiifname \"{wan}\" ct state new drop\n\
         \t}}\n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority filter;\n\
         \t\tiifname \"{wan}\" ct state != {{ established, related }} drop\n\
         \t}}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests;

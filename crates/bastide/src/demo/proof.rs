//! The proof: what was on each device and each wire while containers called each other.
//!
//! A zero proves something only where the same tap has seen something else. So: on the mesh devices
//! the canary must be seen; on the uplinks datagrams of the mesh must be seen, and neither the
//! canary, nor a VXLAN header, nor an inner address at any encapsulation.

use anyhow::Context;
use bastide_lab::run::capture::Capture;
use bastide_lab::{Counts, Filters};
use data_encoding::HEXLOWER;

use super::PLACES;
use super::report::Report;
use super::scene::Scene;

/// Uplinks: what leaves a site. Those behind a router twice, on both of its sides.
const UPLINKS: [(&str, &str); 5] = [
    ("atlas", "eth0"),
    ("boreas", "eth0"),
    ("home-router", "wan"),
    ("cygnus", "eth0"),
    ("edge-router", "wan"),
];
/// The mesh device of each host.
const MESH_DEVICE: &str = "bst0";
/// The container bridge of each host.
const BRIDGE: &str = bastide_cluster::core::swarm::BRIDGE;
/// Ranges that only exist inside: mesh, containers, Swarm's own.
const INNER: [&str; 4] = [
    "100.72.0.0/16",
    "10.128.0.0/12",
    "10.144.0.0/16",
    "10.145.0.0/24",
];

/// 32 random bytes that stand in every body.
pub struct Canary {
    bytes: [u8; 32],
    hex: String,
}

impl Canary {
    /// As `hello call` takes it.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

/// Draws a canary.
pub fn canary() -> anyhow::Result<Canary> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).context("could not draw a canary")?;
    let hex = HEXLOWER.encode(&bytes);
    Ok(Canary { bytes, hex })
}

/// Captures under way.
pub struct Watch {
    taps: Vec<(Kind, String, Capture)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bridge,
    Mesh,
    Uplink,
}

/// What was seen.
pub struct Proof {
    seen: Vec<(Kind, String, Counts)>,
}

impl Watch {
    /// Begins to count on every bridge, mesh device and uplink.
    pub fn begin(scene: &Scene, canary: &Canary) -> anyhow::Result<Self> {
        let inner = INNER
            .iter()
            .map(|net| net.parse())
            .collect::<Result<_, _>>()?;
        let filters = Filters {
            canaries: vec![bastide_lab::Canary(canary.bytes)],
            inner,
        };
        let mut taps = Vec::new();
        let hosts = |kind, device| PLACES.iter().map(move |place| (kind, place.host, device));
        let uplinks = UPLINKS
            .iter()
            .map(|(node, device)| (Kind::Uplink, *node, *device));
        let all = hosts(Kind::Bridge, BRIDGE)
            .chain(hosts(Kind::Mesh, MESH_DEVICE))
            .chain(uplinks);
        for (kind, node, device) in all {
            let capture = scene
                .lab()
                .capture(node, device, &filters)
                .with_context(|| format!("could not capture on {node}/{device}"))?;
            taps.push((kind, format!("{node}/{device}"), capture));
        }
        Ok(Self { taps })
    }

    /// Ends the captures.
    pub fn finish(self) -> anyhow::Result<Proof> {
        let seen = self
            .taps
            .into_iter()
            .map(|(kind, name, capture)| Ok((kind, name, capture.finish()?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Proof { seen })
    }
}

impl Proof {
    /// Prints the table and checks what it shows.
    pub fn print(&self, report: &mut Report) {
        let head = [
            "where",
            "frames",
            "of the mesh",
            "canary",
            "inner address",
            "VXLAN",
            "missed",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for (_, name, counts) in &self.seen {
            let cells = [
                counts.frames,
                counts.wireguard,
                counts.canary,
                counts.inner,
                counts.vxlan,
                counts.missed,
            ];
            rows.push(
                std::iter::once(name.clone())
                    .chain(cells.map(|cell| cell.to_string()))
                    .collect(),
            );
        }
        report.table("proof", &rows);
        let all = |kind, holds: fn(&Counts) -> bool| {
            self.seen
                .iter()
                .filter(|(one, ..)| *one == kind)
                .all(|(.., counts)| holds(counts))
        };
        report.check(
            "containers' bridges and mesh devices: the canary was seen on each",
            all(Kind::Bridge, |counts| 0 < counts.canary)
                && all(Kind::Mesh, |counts| 0 < counts.canary),
        );
        report.check(
            "uplinks: datagrams of the mesh were seen on each, and no frame was missed",
            all(Kind::Uplink, |counts| {
                0 < counts.wireguard && counts.missed == 0
            }),
        );
        report.check(
            "uplinks: the canary was never seen, nor an inner address, nor VXLAN",
            all(Kind::Uplink, |counts| {
                counts.canary == 0 && counts.inner == 0 && counts.vxlan == 0
            }),
        );
    }
}

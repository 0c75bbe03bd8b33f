//! What a bench prints: medians, and how many times a peer's throughput Bastide reaches.

use std::collections::BTreeMap;

use super::iperf::Sample;
use super::peers::Peer;

/// Returns the table's lines.
pub fn lines(results: &[(Peer, Sample)]) -> Vec<String> {
    let mut by_peer: BTreeMap<Peer, Vec<Sample>> = BTreeMap::new();
    for (peer, sample) in results {
        by_peer.entry(*peer).or_default().push(*sample);
    }
    let medians: BTreeMap<Peer, Sample> = by_peer
        .iter()
        .map(|(peer, samples)| (*peer, median_of(samples)))
        .collect();
    let ours = medians.get(&Peer::Bastide);
    let head = "peer          tcp Gbit/s  udp kpps   rtt ms  cores  bastide's tcp, udp";
    let rows = medians.iter().map(|(peer, sample)| {
        let ratio = ours
            .filter(|_| *peer != Peer::Bastide)
            .map_or(String::new(), |ours| {
                let (tcp, udp) = (
                    ours.tcp_gbit / sample.tcp_gbit,
                    ours.udp_kpps / sample.udp_kpps,
                );
                format!("  {tcp:.2} x, {udp:.2} x")
            });
        let (
            peer,
            Sample {
                tcp_gbit,
                udp_kpps,
                rtt_ms,
                cores,
            },
        ) = (peer.to_string(), sample);
        format!("{peer:<12} {tcp_gbit:>11.3} {udp_kpps:>9.1} {rtt_ms:>8.3} {cores:>6.2}{ratio}")
    });
    std::iter::once(head.to_owned()).chain(rows).collect()
}

fn median_of(samples: &[Sample]) -> Sample {
    let of = |value: fn(&Sample) -> f64| median(samples.iter().map(value).collect());
    Sample {
        tcp_gbit: of(|sample| sample.tcp_gbit),
        udp_kpps: of(|sample| sample.udp_kpps),
        rtt_ms: of(|sample| sample.rtt_ms),
        cores: of(|sample| sample.cores),
    }
}

/// Returns the middle of some values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(lower), values.get(upper)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests;

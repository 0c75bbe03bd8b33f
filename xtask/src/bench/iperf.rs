//! Throughput by iperf3, latency by ping.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::network::{Daemon, End, Network};
use super::peers::Tunnel;
use crate::workspace::output;

/// What one peer did in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// TCP, one stream, in Gbit/s received.
    pub tcp_gbit: f64,
    /// UDP datagrams of 1,200 bytes that arrived, in thousands a second.
    pub udp_kpps: f64,
    /// Mean round trip of a quiet tunnel, in milliseconds.
    pub rtt_ms: f64,
    /// Processors that the peer's two processes used during TCP.
    pub cores: f64,
}

/// Measures a tunnel.
pub fn measure(network: &Network, tunnel: &Tunnel, seconds: u32) -> anyhow::Result<Sample> {
    let mut ping = network.command(End::One, "ping");
    ping.args(["-q", "-c", "200", "-i", "0.005", &tunnel.to]);
    let rtt_ms = mean_rtt(&output(&mut ping)?).context("ping told no times")?;
    let ticks = || -> u64 { tunnel.daemons.iter().map(Daemon::ticks).sum() };
    let before = ticks();
    let tcp = iperf(network, &tunnel.to, seconds, &[])?;
    let used = u32::try_from(ticks().saturating_sub(before)).unwrap_or(u32::MAX);
    let udp = iperf(
        network,
        &tunnel.to,
        seconds,
        &["-u", "-b", "0", "-l", "1200"],
    )?;
    Ok(Sample {
        tcp_gbit: tcp_gbit(&tcp).context("iperf3 told no throughput")?,
        udp_kpps: udp_kpps(&udp, seconds).context("iperf3 told no packets")?,
        rtt_ms,
        cores: f64::from(used) / 100.0 / f64::from(seconds),
    })
}

/// Runs iperf3 from end one to end two.
fn iperf(network: &Network, to: &str, seconds: u32, extra: &[&str]) -> anyhow::Result<Value> {
    const LISTENS_WITHIN: Duration = Duration::from_secs(5);
    let mut server = network.command(End::Two, "iperf3");
    let _server = Daemon::start(server.args(["-s", "-1"]))?;
    let began = Instant::now();
    loop {
        let mut client = network.command(End::One, "iperf3");
        client
            .args(["-J", "-c", to, "-t", &seconds.to_string()])
            .args(extra);
        let answer = client
            .stderr(Stdio::null())
            .output()
            .context("could not run iperf3")?;
        let report: Value =
            serde_json::from_slice(&answer.stdout).context("iperf3 printed no JSON")?;
        // Until the server listens the client is refused, which it tells in its report only.
        if report.get("error").is_none() {
            return Ok(report);
        }
        if LISTENS_WITHIN + Duration::from_secs(seconds.into()) < began.elapsed() {
            bail!(
                "iperf3 failed: {}",
                String::from_utf8_lossy(&answer.stdout).trim()
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn tcp_gbit(report: &Value) -> Option<f64> {
    Some(report["end"]["sum_received"]["bits_per_second"].as_f64()? / 1e9)
}

fn udp_kpps(report: &Value, seconds: u32) -> Option<f64> {
    let sum = &report["end"]["sum"];
    let arrived = sum["packets"].as_f64()? - sum["lost_packets"].as_f64()?;
    Some(arrived / f64::from(seconds) / 1e3)
}

/// Reads `rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms`.
fn mean_rtt(report: &str) -> Option<f64> {
    let line = report.lines().find(|line| line.starts_with("rtt "))?;
    line.split(" = ").nth(1)?.split('/').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests;

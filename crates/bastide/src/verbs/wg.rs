//! `bastide wg`: one plain WireGuard interface, configured with `wg`.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, ensure};
use bastide_mesh::run::alone::{self, Stop};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Wg;

/// What the background process writes once `wg` can configure its interface.
const READY: &[u8] = b"ready\n";

/// Runs the interface here, or starts this program anew to run it in the background.
pub fn run(arguments: Wg) -> anyhow::Result<ExitCode> {
    if !arguments.foreground && !arguments.background {
        return start_in_background(&arguments.interface);
    }
    bastide_linux::memory::harden().context("could not protect this process's memory")?;
    if arguments.background {
        // Away from the terminal that started it.
        rustix::process::setsid().context("could not leave the terminal's session")?;
    }
    let stop = Stop::new().context("could not make the signal to stop")?;
    stop_on_signals(stop.clone())?;
    alone::run(&arguments.interface, &stop, |_| {
        if arguments.background {
            let mut stdout = std::io::stdout();
            // Whoever waited may be gone: the device runs all the same.
            let _ = stdout.write_all(READY).and_then(|()| stdout.flush());
        }
    })
    .with_context(|| format!("interface `{}` ended", arguments.interface))?;
    Ok(ExitCode::SUCCESS)
}

fn start_in_background(interface: &str) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("could not find this program")?;
    let mut child = Command::new(program)
        .args(["wg", "--background", interface])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start this program anew")?;
    let mut stdout = child
        .stdout
        .take()
        .context("the new program has no output")?;
    let mut said = vec![0; READY.len()];
    let is_ready = stdout.read_exact(&mut said).is_ok() && said == READY;
    if !is_ready {
        let status = child.wait().context("could not wait for the new program")?;
        ensure!(
            status.success(),
            "interface `{interface}` could not be started: {status}"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn stop_on_signals(stop: Stop) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("could not listen for signals")?;
    let (mut terminate, mut interrupt) = {
        let _in_runtime = runtime.enter();
        (
            signal(SignalKind::terminate()).context("could not listen for signals")?,
            signal(SignalKind::interrupt()).context("could not listen for signals")?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        stop.now();
    });
    Ok(())
}

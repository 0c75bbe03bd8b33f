//! Serves sessions with this node's containers, over the mesh, to whoever brings a grant.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bastide_api::session::{Action, Ended, Grant, Kind, OPENING_BYTES_MAX, SignedGrant};
use bastide_client::{read_frame, write_frame};
use bastide_cluster::Engine;
use bastide_cluster::engine::{Running, ServiceContainer, Written};
use bastide_pki::verify_grant;
use futures_util::{Stream, StreamExt, future, stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::membership::Member;
use crate::core::sessions::{Admitted, Desk, Lines};

/// Sessions at one time. More wait in the kernel's queue.
const SESSIONS_MAX: usize = 64;
/// How long a caller may take to show its grant, and the engine to find the containers.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// How long a command's exit code may be behind the end of its output.
const CODE_WITHIN: Duration = Duration::from_secs(5);

/// What sessions are served with.
pub struct Sessions {
    member: Member,
    engine: PathBuf,
    desk: Mutex<Desk>,
}

impl Sessions {
    /// Serves the containers of the engine that this node's settings name.
    pub fn new(member: Member) -> Self {
        let desk = Desk::new(member.node(), member.clock().now());
        Self {
            engine: member.settings().engine,
            desk: Mutex::new(desk),
            member,
        }
    }

    /// Serves who connects. Bind `listener` to the mesh address and nothing else. Runs until dropped.
    pub async fn serve(self, listener: TcpListener) {
        let this = Arc::new(self);
        let places = Arc::new(Semaphore::new(SESSIONS_MAX));
        let mut sessions = JoinSet::new();
        loop {
            let accept = async {
                let place = Arc::clone(&places).acquire_owned().await;
                let place = place.expect("the semaphore is never closed");
                (listener.accept().await, place)
            };
            tokio::select! {
                (accepted, place) = accept => match accepted {
                    Ok((stream, _)) => {
                        let this = Arc::clone(&this);
                        sessions.spawn(async move {
                            if let Err(error) = this.one(stream).await {
                                debug!(%error, "session ended");
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        // Out of files, perhaps: that passes, and must not spin.
                        debug!(%error, "could not accept");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(ended) = sessions.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
            }
        }
    }

    async fn one(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (input, mut output) = stream.into_split();
        let mut input = BufReader::new(input);
        let ended = match self.open(&mut input).await {
            Ok((admitted, engine)) => self.run(&admitted, &engine, input, &mut output).await?,
            Err(why) => Ended::Refused(why),
        };
        let ended = serde_json::to_vec(&ended)?;
        write_frame(&mut output, Kind::Ended, &ended).await?;
        output.shutdown().await
    }

    /// Reads the grant and judges it; the words of a refusal are for the caller.
    async fn open(
        &self,
        input: &mut BufReader<OwnedReadHalf>,
    ) -> Result<(Admitted, Engine), String> {
        let mut line = Vec::new();
        let limit = u64::try_from(OPENING_BYTES_MAX).unwrap_or(u64::MAX);
        let mut bounded = input.take(limit);
        let read = bounded.read_until(b'\n', &mut line);
        match timeout(OPEN_WITHIN, read).await {
            Ok(Ok(_)) if line.ends_with(b"\n") => {}
            _ => return Err("no grant came".to_owned()),
        }
        let signed: SignedGrant =
            serde_json::from_slice(&line).map_err(|_| "what came is no grant".to_owned())?;
        let answer = self.member.answer();
        let grant = verify_grant(&signed, answer.cluster.id, &answer.view_key)
            .map_err(|error| error.to_string())?;
        let now = self.member.clock().now();
        let admitted = self
            .desk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(grant, now)
            .map_err(|error| error.to_string())?;
        let Grant {
            id, stack, service, ..
        } = admitted.grant();
        info!(session = id, %stack, %service, "session with containers");
        match timeout(OPEN_WITHIN, Engine::connect(&self.engine)).await {
            Ok(Ok(engine)) => Ok((admitted, engine)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the container engine does not answer".to_owned()),
        }
    }

    async fn run(
        &self,
        admitted: &Admitted,
        engine: &Engine,
        input: BufReader<OwnedReadHalf>,
        output: &mut OwnedWriteHalf,
    ) -> io::Result<Ended> {
        let grant = admitted.grant();
        let ended_too = matches!(grant.action, Action::Logs { .. });
        let listed = engine.containers_of(&grant.stack, &grant.service, ended_too);
        let containers = match timeout(OPEN_WITHIN, listed).await {
            Ok(Ok(containers)) => containers,
            Ok(Err(error)) => return Ok(Ended::Refused(error.to_string())),
            Err(_) => return Ok(Ended::Refused("the engine does not answer".to_owned())),
        };
        match &grant.action {
            Action::Logs { follow, tail } => {
                let pieces = logs(engine, containers, *follow, *tail);
                show(pieces, input, output).await
            }
            Action::Exec {
                command,
                tty,
                stdin,
            } => {
                let Some(container) = containers.first() else {
                    let why = format!("no container of `{}` runs on this node", grant.service);
                    return Ok(Ended::Refused(why));
                };
                let started = engine.exec(&container.id, command, *tty, *stdin).await;
                match started {
                    Ok(running) => converse(engine, running, input, output).await,
                    Err(error) => Ok(Ended::Refused(error.to_string())),
                }
            }
        }
    }
}

/// What all containers wrote, each line with the name of its task before it.
fn logs(
    engine: &Engine,
    containers: Vec<ServiceContainer>,
    follow: bool,
    tail: Option<u32>,
) -> impl Stream<Item = Written> + Send + Unpin + use<> {
    let streams = containers.into_iter().map(|container| {
        let pieces = engine.logs(&container.id, follow, tail);
        let lines = (Lines::new(&container.task), Lines::new(&container.task));
        let labelled = stream::unfold((pieces.boxed(), Some(lines)), |(mut pieces, lines)| async {
            let mut lines = lines?;
            let next = loop {
                match pieces.next().await {
                    Some(Ok(Written::Output(bytes))) => {
                        break Written::Output(lines.0.push(&bytes).into());
                    }
                    Some(Ok(Written::Errors(bytes))) => {
                        break Written::Errors(lines.1.push(&bytes).into());
                    }
                    Some(Err(error)) => {
                        warn!(%error, "logs could not be read");
                    }
                    None => {
                        let rest = [lines.0.finish(), lines.1.finish()].concat();
                        return Some((Written::Output(rest.into()), (pieces, None)));
                    }
                }
            };
            Some((next, (pieces, Some(lines))))
        });
        labelled.boxed()
    });
    stream::select_all(streams)
}

/// Sends pieces until they or the caller end.
async fn show(
    mut pieces: impl Stream<Item = Written> + Unpin,
    mut input: BufReader<OwnedReadHalf>,
    output: &mut OwnedWriteHalf,
) -> io::Result<Ended> {
    // The caller sends nothing; that its side ends is how it says that it has seen enough.
    let gone = async move {
        let mut nothing = [0; 1];
        let _ = input.read(&mut nothing).await;
    };
    tokio::pin!(gone);
    loop {
        let piece = match future::select(pieces.next(), &mut gone).await {
            future::Either::Left((Some(piece), _)) => piece,
            future::Either::Left((None, _)) => return Ok(Ended::Exit(0)),
            future::Either::Right(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        send(output, piece).await?;
    }
}

async fn send(output: &mut OwnedWriteHalf, piece: Written) -> io::Result<()> {
    let (kind, bytes) = match piece {
        Written::Output(bytes) => (Kind::Output, bytes),
        Written::Errors(bytes) => (Kind::Errors, bytes),
    };
    for piece in bytes.chunks(bastide_api::session::FRAME_BYTES_MAX) {
        write_frame(output, kind, piece).await?;
    }
    Ok(())
}

/// Carries what is typed to a command and what it writes back, until it or the caller ends.
async fn converse(
    engine: &Engine,
    running: Running,
    mut from_caller: BufReader<OwnedReadHalf>,
    output: &mut OwnedWriteHalf,
) -> io::Result<Ended> {
    let Running {
        id,
        mut written,
        mut input,
    } = running;
    let typed = async {
        loop {
            match read_frame(&mut from_caller).await {
                Ok((Kind::Input, bytes)) if bytes.is_empty() => {
                    let _ = input.shutdown().await;
                }
                // A command that reads no more may still write.
                Ok((Kind::Input, bytes)) => drop(feed(&mut input, &bytes).await),
                Ok((Kind::Size, bytes)) => {
                    if let [a, b, c, d] = bytes[..] {
                        let (columns, rows) =
                            (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                        if let Err(error) = engine.resize(&id, columns, rows).await {
                            debug!(%error, "terminal not resized");
                        }
                    }
                }
                Ok(_) => return io::Error::from(io::ErrorKind::InvalidData),
                Err(error) => return error,
            }
        }
    };
    tokio::pin!(typed);
    loop {
        match future::select(written.next(), &mut typed).await {
            future::Either::Left((Some(Ok(piece)), _)) => send(output, piece).await?,
            future::Either::Left((Some(Err(error)), _)) => {
                return Ok(Ended::Refused(error.to_string()));
            }
            future::Either::Left((None, _)) => break,
            future::Either::Right((error, _)) => return Err(error),
        }
    }
    Ok(match timeout(CODE_WITHIN, code(engine, &id)).await {
        Ok(Ok(code)) => Ended::Exit(code),
        Ok(Err(error)) => Ended::Refused(error.to_string()),
        Err(_) => Ended::Refused("the engine does not tell how the command ended".to_owned()),
    })
}

async fn feed(input: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    input.write_all(bytes).await?;
    input.flush().await
}

/// The engine closes a command's output a moment before it knows the code.
async fn code(engine: &Engine, id: &str) -> Result<i64, bastide_cluster::EngineError> {
    loop {
        if let Some(code) = engine.exit_code(id).await? {
            return Ok(code);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

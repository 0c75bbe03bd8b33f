//! The supervisor of a lab, as whoever brought the lab up holds it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use bastide_linux::namespace::Kind;
use bastide_linux::spawn::{Child, Command, Signal, Stdio};

use super::{END_WAIT, LabError, Options};
use crate::core::plan::Plan;
use crate::run::control::{Connection, Request};
use crate::run::state::State;
use crate::run::supervisor::{CONTROL_FD, FILE_FD, LIFE_FD, LOCK_FD, READY_FD};

/// Whoever brought a lab up: dropped without a word, it takes the lab down.
#[derive(Debug)]
pub struct Owner {
    supervisor: Child,
    life: Connection,
}

impl Owner {
    /// Starts the supervisor, hands it the lab, and returns when the lab stands; with the connection over
    /// which it is told what to do.
    pub fn start(
        plan: &Plan,
        options: &Options,
        state: &State,
        group: &str,
    ) -> Result<(Self, Connection), LabError> {
        let system = |operation| move |source| LabError::System { operation, source };
        let listener = state.listen()?;
        let (mut ready, ready_write) = io::pipe().map_err(system("make a pipe"))?;
        let (file, file_write) = io::pipe().map_err(system("make a pipe"))?;
        let (life, life_theirs) = UnixStream::pair().map_err(system("make a socket"))?;
        let mut command = Command::new(&options.program);
        command
            .args(&options.before)
            .args(["supervisor", group])
            .arg(&options.program)
            .args(&options.before)
            .stdin(Stdio::Null)
            .stdout(Stdio::Null)
            .stderr(Stdio::Null)
            .descriptor(FILE_FD, file)
            .descriptor(READY_FD, ready_write)
            .descriptor(LOCK_FD, state.lock_file()?)
            .descriptor(CONTROL_FD, listener)
            .descriptor(LIFE_FD, life_theirs)
            .new_namespaces(&[Kind::Pid, Kind::Mount, Kind::Network])
            .new_session();
        let supervisor = command.spawn().map_err(LabError::Start)?;
        let mut owner = Self {
            supervisor,
            life: Connection::new(life),
        };
        let mut why = String::new();
        let told = tell(file_write, plan.text()).and_then(|()| ready.read_to_string(&mut why));
        if told.is_err() || why != "ok" {
            let _ = owner.supervisor.signal(Signal::KILL);
            let _ = owner.supervisor.wait();
            let why = if why.is_empty() {
                "its supervisor ended".to_owned()
            } else {
                why
            };
            return Err(LabError::Up {
                lab: plan.name().to_string(),
                why,
            });
        }
        let control = UnixStream::connect(state.folder().join("control"))
            .map_err(system("connect to the supervisor"))?;
        Ok((owner, Connection::new(control)))
    }

    /// Returns the supervisor's process id.
    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor.pid()
    }

    /// Tells the supervisor to live on when this process ends.
    pub fn let_live(mut self) -> io::Result<()> {
        self.life.send(&Request::Keep, &[])
    }

    /// Ends the supervisor, which was told to end over its control socket; this says it a second way,
    /// should that have failed.
    pub fn end(mut self) {
        drop(self.life);
        if !matches!(self.supervisor.wait_for(END_WAIT), Ok(Some(_))) {
            let _ = self.supervisor.signal(Signal::KILL);
            let _ = self.supervisor.wait_for(END_WAIT);
        }
    }
}

/// Writes `text` and closes the pipe, which tells the reader that it is whole.
fn tell(mut pipe: io::PipeWriter, text: &str) -> io::Result<()> {
    pipe.write_all(text.as_bytes())
}

//! What containers wrote, and commands in them.

use std::collections::HashMap;
use std::pin::Pin;

use bastide_api::{ServiceName, StackName};
use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, LogsOptionsBuilder, ResizeExecOptionsBuilder,
};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWrite;

use super::Engine;
use super::error::{EngineError, Object};
use crate::core::facts::LABEL_SERVICE;

/// A container of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceContainer {
    /// The engine's id of it.
    pub id: String,
    /// The task's name in its service: `web.1`.
    pub task: String,
}

/// A piece of what a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// To its standard output, or to its terminal.
    Output(Bytes),
    /// To its standard error.
    Errors(Bytes),
}

/// A command that runs in a container.
pub struct Running {
    /// The engine's id of it.
    pub id: String,
    /// What it writes; the end of it is the command's end.
    pub written: BoxStream<'static, Result<Written, EngineError>>,
    /// What it reads.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl Engine {
    /// Lists this engine's containers of a service, those that ended lately too if asked.
    pub async fn containers_of(
        &self,
        stack: &StackName,
        service: &ServiceName,
        ended_too: bool,
    ) -> Result<Vec<ServiceContainer>, EngineError> {
        let label = format!("{LABEL_SERVICE}={stack}_{service}");
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new()
            .all(ended_too)
            .filters(&filters)
            .build();
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|e| Object::new("listing", "containers").failed(e))?;
        let known = listed.into_iter().filter_map(|found| {
            let name = found.names?.into_iter().next()?;
            let name = name.trim_start_matches('/');
            // Swarm calls a task's container `<stack>_<service>.<slot>.<id>`.
            let task = name.strip_prefix(&format!("{stack}_")).unwrap_or(name);
            let task = task.rsplit_once('.').map_or(task, |(task, _)| task);
            Some(ServiceContainer {
                id: found.id?,
                task: task.to_owned(),
            })
        });
        Ok(known.collect())
    }

    /// Shows what a container wrote: the last `tail` lines, or all; with `follow`, and then what it
    /// writes until it ends.
    pub fn logs(
        &self,
        container: &str,
        follow: bool,
        tail: Option<u32>,
    ) -> impl Stream<Item = Result<Written, EngineError>> + Send + use<> {
        let tail = tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .follow(follow)
            .tail(&tail)
            .build();
        let object = Object::new("reading the logs of", container);
        let stream = self.docker.logs(container, Some(options)).boxed();
        stream.map(move |piece| piece.map(written).map_err(|source| object.failed(source)))
    }

    /// Starts a command in a container.
    pub async fn exec(
        &self,
        container: &str,
        command: &[String],
        tty: bool,
        stdin: bool,
    ) -> Result<Running, EngineError> {
        let config = ExecConfig {
            attach_stdin: Some(stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(tty),
            cmd: Some(command.to_vec()),
            ..ExecConfig::default()
        };
        let object = Object::new("running a command in", container);
        let made = self.docker.create_exec(container, config).await;
        let id = made.map_err(|source| object.failed(source))?.id;
        let options = StartExecOptions {
            detach: false,
            tty,
            output_capacity: None,
        };
        let object = Object::new("running a command in", container);
        let started = self.docker.start_exec(&id, Some(options)).await;
        match started.map_err(|source| object.failed(source))? {
            StartExecResults::Attached { output, input } => {
                let object = Object::new("running a command in", container);
                let written = output
                    .map(move |piece| piece.map(written).map_err(|e| object.failed(e)))
                    .boxed();
                Ok(Running { id, written, input })
            }
            StartExecResults::Detached => {
                unreachable!("a command that was not to be detached is attached")
            }
        }
    }

    /// Returns with which code a command ended; `None` while it runs.
    pub async fn exit_code(&self, exec: &str) -> Result<Option<i64>, EngineError> {
        let seen = self.docker.inspect_exec(exec).await;
        let seen = seen.map_err(|e| Object::new("looking at command", exec).failed(e))?;
        Ok(seen.exit_code.filter(|_| seen.running != Some(true)))
    }

    /// Tells a command's terminal its size.
    pub async fn resize(&self, exec: &str, columns: u16, rows: u16) -> Result<(), EngineError> {
        let options = ResizeExecOptionsBuilder::new()
            .w(columns.into())
            .h(rows.into())
            .build();
        let resized = self.docker.resize_exec(exec, options).await;
        resized.map_err(|e| Object::new("resizing the terminal of", exec).failed(e))
    }
}

fn written(piece: LogOutput) -> Written {
    match piece {
        LogOutput::StdErr { message } => Written::Errors(message),
        LogOutput::StdOut { message }
        | LogOutput::StdIn { message }
        | LogOutput::Console { message } => Written::Output(message),
    }
}

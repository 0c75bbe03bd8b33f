//! Hosts with an engine of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bastide_cluster::Engine;
use bastide_linux::namespace::{Kind, Namespace};

use crate::wire::Net;

/// Longest wait for anything in these tests.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A host: its namespaces, its engine. The kernel ends all of it when the first process ends.
pub struct Host {
    pub net: Net,
    pub engine: Engine,
    folder: PathBuf,
    first: u32,
    outer: Child,
    daemon: Child,
    cgroup: String,
}

/// Waits until `look` finds something.
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Host {
    /// Makes host `name` with its files below `folder` and starts its engine.
    pub async fn start(folder: &Path, name: &str) -> Self {
        let folder = folder.join(name);
        fs::create_dir_all(folder.join("state")).unwrap();
        // The first process of the host: it waits. Its end is the end of the host.
        let state = folder.join("state");
        let script = format!(
            "hostname {name} && mount --make-rprivate / && mount -t tmpfs run /run && \
             mount -t tmpfs state {} && ip link set lo up && exec sleep infinity",
            state.display()
        );
        let outer = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "-m",
                "-n",
                "-p",
                "-u",
                "--fork",
            ])
            .args(["--kill-child", "--mount-proc", "sh", "-c", &script])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let first: u32 = wait("the host's first process", || {
            let pid = fs::read_to_string(&children).ok()?.trim().parse().ok()?;
            let waits = fs::read_to_string(format!("/proc/{pid}/comm")).ok()? == "sleep\n";
            waits.then_some(pid)
        });
        let net = Net(Namespace::of_process(Kind::Network, first).unwrap());
        assert_eq!(net.run("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");

        let cgroup = format!("bastide-test-{}-{name}", std::process::id());
        let socket = folder.join("engine.sock");
        fs::write(folder.join("daemon.json"), "{}").unwrap();
        let daemon = start_engine(&folder, first, &cgroup);
        let engine = connect(&socket).await;
        Self {
            net,
            engine,
            folder,
            first,
            outer,
            daemon,
            cgroup,
        }
    }

    /// Where the engine keeps what it keeps.
    pub fn data(&self) -> PathBuf {
        // As seen from here: the host has mounts of its own.
        let state = self.folder.join("state/data");
        let inner = state.strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{}/root", self.first)).join(inner)
    }

    /// Ends the engine, as its service manager would; its containers end with it.
    pub fn stop_engine(&mut self) {
        // `nsenter` waits for the engine, which is its child in the host's PID namespace.
        let entered = self.daemon.id();
        let children = fs::read_to_string(format!("/proc/{entered}/task/{entered}/children"));
        let pid: i32 = children.unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.daemon.wait().unwrap();
    }

    /// Starts the engine again.
    pub async fn start_engine(&mut self) {
        self.daemon = start_engine(&self.folder, self.first, &self.cgroup);
        connect(self.engine.socket()).await;
    }

    /// Asks the engine as a person would, and returns what the client printed.
    pub fn docker(&self, arguments: &str) -> Result<String, String> {
        let output = Command::new("docker")
            .args(["-H", &format!("unix://{}", self.engine.socket().display())])
            .args(arguments.split(' '))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }
}

/// Starts the engine of the host whose first process is `first`.
fn start_engine(folder: &Path, first: u32, cgroup: &str) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("engine.log"))
        .unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    Command::new("nsenter")
        .args(["-t", &first.to_string(), "-m", "-n", "-p", "-u"])
        .arg("dockerd")
        .args(["--config-file", &path("daemon.json")])
        .args(["--data-root", &path("state/data")])
        .args(["--exec-root", &path("state/exec")])
        .args(["--pidfile", &path("state/pid")])
        .args(["-H", &format!("unix://{}", path("engine.sock"))])
        .args(["--cgroup-parent", &format!("/{cgroup}")])
        .args(["--oom-score-adjust", "0"])
        .args(["--storage-driver", "overlay2"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

async fn connect(socket: &Path) -> Engine {
    let end = Instant::now() + PATIENCE;
    loop {
        match Engine::connect(socket).await {
            Ok(engine) => return engine,
            Err(error) => assert!(Instant::now() < end, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        for controller in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let folder = controller.path().join(&self.cgroup);
            if folder.is_dir() {
                wait("an empty control group", || {
                    remove_cgroup(&folder).then_some(())
                });
            }
        }
        let folder = Path::new("/sys/fs/cgroup").join(&self.cgroup);
        if folder.is_dir() {
            wait("an empty control group", || {
                remove_cgroup(&folder).then_some(())
            });
        }
    }
}

/// Removes a control group and those in it; false while a process in one is still ending.
fn remove_cgroup(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let inner: Vec<PathBuf> = entries
        .map(|one| one.path())
        .filter(|path| path.is_dir())
        .collect();
    inner.iter().all(|path| remove_cgroup(path)) && fs::remove_dir(folder).is_ok()
}

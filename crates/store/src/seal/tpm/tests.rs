use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// A software TPM in a folder of its own.
struct Software {
    child: Child,
    folder: tempfile::TempDir,
}

impl Software {
    /// Starts one; `None`, and aloud, if there is no program for it.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let Some(child) = run(folder.path()) else {
            eprintln!("skipped: swtpm is missing");
            return None;
        };
        Some(Self { child, folder })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("tpm.sock")
    }

    /// Takes the power away and gives it back: registers begin anew.
    fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.socket());
        self.child = run(self.folder.path()).unwrap();
    }

    fn seal(&self, pcrs: &[u8]) -> TpmSeal {
        TpmSeal::new(self.socket(), pcrs).unwrap()
    }

    /// Extends a register, as firmware does that starts something else.
    fn extend(&self, pcr: u32) {
        let body = Out::default()
            .u32(pcr)
            .raw(&no_password())
            .u32(1)
            .u16(SHA256)
            .raw(&[7; 32])
            .0;
        let mut message = Out::default().u16(SESSIONS).0;
        message.extend_from_slice(&u32::try_from(10 + body.len()).unwrap().to_be_bytes());
        message.extend_from_slice(&0x182u32.to_be_bytes());
        message.extend_from_slice(&body);
        let mut line = std::os::unix::net::UnixStream::connect(self.socket()).unwrap();
        line.write_all(&message).unwrap();
        let mut answer = [0; 10];
        line.read_exact(&mut answer).unwrap();
        assert_eq!(answer[6..], [0; 4], "the register was extended");
    }
}

impl Drop for Software {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(folder: &Path) -> Option<Child> {
    let socket = folder.join("tpm.sock");
    let child = Program::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .arg("--tpmstate")
        .arg(format!("dir={}", folder.display()))
        .arg("--server")
        .arg(format!("type=unixio,path={}", socket.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let by = Instant::now() + Duration::from_secs(10);
    // The socket is there a moment before it listens.
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < by, "swtpm did not start");
        std::thread::yield_now();
    }
    Some(child)
}

const ROOT: [u8; 32] = [5; 32];

#[test]
fn what_a_tpm_sealed_that_tpm_alone_opens_and_its_restart_does_not_matter() {
    let Some(mut one) = Software::start() else {
        return;
    };
    let wrapped = one.seal(&[]).wrap(b"context", &ROOT).unwrap();
    for _ in 0..2 {
        let root = one.seal(&[]).unwrap(b"context", &wrapped).unwrap();
        assert_eq!(*root.expose(), ROOT);
        one.restart();
    }
    assert!(one.seal(&[]).unwrap(b"another", &wrapped).is_err());
    let other = Software::start().unwrap();
    let refused = other.seal(&[]).unwrap(b"context", &wrapped).err().unwrap();
    assert!(refused.to_string().contains("not the TPM"), "{refused}");
    // Places in a TPM are few: none is left behind.
    for _ in 0..8 {
        one.seal(&[]).unwrap(b"context", &wrapped).unwrap();
    }
}

#[test]
fn a_seal_over_registers_opens_only_while_they_are_as_they_were() {
    let Some(mut tpm) = Software::start() else {
        return;
    };
    let wrapped = tpm.seal(&[7, 16]).wrap(b"context", &ROOT).unwrap();
    let open = |tpm: &Software| tpm.seal(&[]).unwrap(b"context", &wrapped);
    assert_eq!(*open(&tpm).unwrap().expose(), ROOT);
    tpm.extend(16);
    let refused = open(&tpm).err().unwrap();
    assert!(refused.to_string().contains("registers"), "{refused}");
    tpm.restart();
    assert_eq!(*open(&tpm).unwrap().expose(), ROOT);
    // Registers that are not among them may change.
    tpm.extend(10);
    assert_eq!(*open(&tpm).unwrap().expose(), ROOT);
    assert!(matches!(
        TpmSeal::new("/dev/tpmrm0", &[24]),
        Err(TpmError::Register(24))
    ));
}

/// Whoever listens on the wires between processor and TPM learns nothing.
#[test]
fn neither_key_nor_root_key_goes_over_the_bus_in_clear() {
    use std::os::unix::net::{UnixListener, UnixStream};
    let Some(tpm) = Software::start() else {
        return;
    };
    let tap = tpm.folder.path().join("tap.sock");
    let listener = UnixListener::bind(&tap).unwrap();
    let to = tpm.socket();
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        for _ in 0..2 {
            let (mut near, _) = listener.accept().unwrap();
            let mut far = UnixStream::connect(&to).unwrap();
            loop {
                let mut chunk = [0; 4096];
                let read = near.read(&mut chunk).unwrap();
                if read == 0 {
                    break;
                }
                far.write_all(&chunk[..read]).unwrap();
                heard.extend_from_slice(&chunk[..read]);
                let read = far.read(&mut chunk).unwrap();
                near.write_all(&chunk[..read]).unwrap();
                heard.extend_from_slice(&chunk[..read]);
            }
        }
        heard
    });
    let tapped = TpmSeal::new(&tap, &[]).unwrap();
    let key = random_key();
    let [parent, public, private] = tapped.seal_key(&key).unwrap();
    let stored = Opened {
        parent,
        public,
        private,
        pcrs: Vec::new(),
        root: Vec::new(),
    };
    let found = tapped.open_key(&stored).unwrap();
    assert_eq!(found.expose(), key.expose());
    let heard = heard.join().unwrap();
    let holds = |needle: &[u8]| heard.windows(needle.len()).any(|it| it == needle);
    assert!(holds(&stored.private), "the control: it is heard at all");
    assert!(!holds(key.expose()));
}

#[test]
fn what_is_stored_is_read_whole_or_not_at_all() {
    assert!(Opened::parse(b"").is_none());
    assert!(Opened::parse(b"{}").is_none());
    let text = |pcr: u8| {
        format!(r#"{{"parent":"","public":"AA==","private":"","pcrs":[{pcr}],"root":""}}"#)
    };
    assert!(Opened::parse(text(23).as_bytes()).is_some());
    assert!(Opened::parse(text(24).as_bytes()).is_none());
    let mut answer = In(&[0, 9, 1]);
    assert!(matches!(answer.sized(), Err(TpmError::Answer)));
}

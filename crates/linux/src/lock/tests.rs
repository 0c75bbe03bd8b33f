use super::*;

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lock-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn one_holds_a_lock_and_the_file_tells_who() {
    let folder = Folder::new("one");
    let path = folder.0.join("lock");
    assert!(Holder::of(&path).unwrap().is_none());
    let lock = take(&path).unwrap().unwrap();
    assert!(take(&path).unwrap().is_none());
    let holder = Holder::of(&path).unwrap().unwrap();
    assert_eq!(holder.pid(), std::process::id());
    drop(lock);
    assert!(Holder::of(&path).unwrap().is_none());
    assert!(take(&path).unwrap().is_some());
}

#[test]
fn a_holder_that_is_stopped_can_be_found_and_killed_and_frees_the_lock() {
    let folder = Folder::new("stopped");
    let path = folder.0.join("lock");
    let script = "exec 9>>\"$1\"; flock 9; echo $$ > \"$1\"; echo ready; kill -STOP $$";
    let child = std::process::Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut line = [0; 6];
    let read = child.stdout.as_mut().unwrap().read_exact(&mut line);
    if read.is_err() {
        child.wait().unwrap();
        eprintln!("skipped: flock is missing");
        return;
    }
    let holder = Holder::of(&path).unwrap().unwrap();
    assert_eq!(holder.pid(), child.id());
    holder.signal(Signal::KILL).unwrap();
    child.wait().unwrap();
    assert!(Holder::of(&path).unwrap().is_none());
    holder.signal(Signal::KILL).unwrap();
}

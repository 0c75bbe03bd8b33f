use std::io::Write;

use super::*;
use crate::test_support::is_root;

fn text(file: Option<OwnedFd>) -> String {
    let mut text = String::new();
    File::from(file.unwrap()).read_to_string(&mut text).unwrap();
    text
}

fn output(command: &mut Command) -> String {
    let mut child = command.stdout(Stdio::Pipe).spawn().unwrap();
    let text = text(child.stdout.take());
    assert!(child.wait().unwrap().success());
    text
}

#[test]
fn input_output_and_exit_code_pass() {
    let mut command = Command::new("sh");
    command
        .args(["-c", "cat; exit 7"])
        .stdin(Stdio::Pipe)
        .stdout(Stdio::Pipe);
    let mut child = command.spawn().unwrap();
    File::from(child.stdin.take().unwrap())
        .write_all(b"words")
        .unwrap();
    assert_eq!(text(child.stdout.take()), "words");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn the_environment_holds_only_what_was_given() {
    let mut command = Command::new("env");
    let text = output(command.env("A", "1").env("PATH", "/usr/bin:/bin"));
    assert_eq!(text, "A=1\nPATH=/usr/bin:/bin\n");
}

#[test]
fn a_missing_program_is_an_error_that_names_it() {
    let error = Command::new("no-such-program-here").spawn().unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(
        error.to_string(),
        "could not start `no-such-program-here`: it failed to execute"
    );
}

#[test]
fn only_the_descriptors_that_were_given_are_open() {
    let kept = File::open("/dev/zero").unwrap();
    // Descriptors without the flag that closes them at `execve`, as other libraries leave behind.
    let leaky = rustix::io::fcntl_dupfd_cloexec(&kept, 100).unwrap();
    rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
    let mut command = Command::new("ls");
    // 3 is the folder that `ls` itself reads.
    command.arg("/proc/self/fd");
    let text = output(command.descriptor(5, kept));
    assert_eq!(text, "0\n1\n2\n3\n5\n");
}

#[test]
fn a_process_runs_as_its_user_without_capabilities() {
    if !is_root() {
        return;
    }
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "id -u; id -g; id -G; umask; grep -E 'Cap(Prm|Bnd)|NoNew' /proc/self/status",
    ]);
    command
        .user(12_345, 23_456)
        .umask(0o077)
        .no_new_privileges()
        .bound(CapabilitySet::NET_ADMIN);
    let text = output(&mut command);
    let expected = "12345\n23456\n23456\n0077\nCapPrm:\t0000000000000000\n\
                    CapBnd:\t0000000000001000\nNoNewPrivs:\t1\n";
    assert_eq!(text, expected);
}

#[test]
fn root_keeps_only_its_bounding_set() {
    if !is_root() {
        return;
    }
    let mut command = Command::new("grep");
    command
        .args(["-E", "Cap(Prm|Eff|Inh)", "/proc/self/status"])
        .bound(CapabilitySet::NET_ADMIN);
    let expected =
        "CapInh:\t0000000000000000\nCapPrm:\t0000000000001000\nCapEff:\t0000000000001000\n";
    assert_eq!(output(&mut command), expected);
}

#[test]
fn a_process_enters_a_pid_namespace_and_ends_with_its_first() {
    if !is_root() {
        return;
    }
    let mut command = Command::new("sleep");
    command
        .arg("1000")
        .new_namespaces(&[Kind::Pid, Kind::Mount, Kind::Uts]);
    let mut first = command.spawn().unwrap();
    let pid_namespace = || Namespace::of_process(Kind::Pid, first.pid()).unwrap();
    let inner = output(
        Command::new("sh")
            .args(["-c", "echo $$"])
            .enter(pid_namespace()),
    );
    assert_ne!(inner.trim(), "1");
    assert!(inner.trim().parse::<u32>().unwrap() < 20, "{inner}");
    let mut second = Command::new("sleep")
        .arg("1000")
        .enter(pid_namespace())
        .spawn()
        .unwrap();
    assert_eq!(second.try_wait().unwrap(), None);
    first.signal(Signal::KILL).unwrap();
    // In this order: the first process of a namespace ends only after all others were waited for.
    assert_eq!(second.wait().unwrap().signal(), Some(9));
    assert_eq!(first.wait().unwrap().signal(), Some(9));
    // The thread turned back: its children live in its own namespace again.
    let after = output(Command::new("sh").args(["-c", "readlink /proc/self/ns/pid"]));
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(after.trim(), own.display().to_string());
}

#[test]
fn a_process_dies_with_the_thread_that_started_it() {
    let started = std::thread::spawn(|| {
        Command::new("sleep")
            .arg("1000")
            .death_signal(Signal::KILL)
            .spawn()
            .unwrap()
    });
    let mut child = started.join().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn waiting_with_a_limit_returns_nothing_for_one_that_still_runs() {
    let mut child = Command::new("sleep")
        .arg("1000")
        .new_session()
        .spawn()
        .unwrap();
    assert_eq!(
        child
            .wait_for(std::time::Duration::from_millis(20))
            .unwrap(),
        None
    );
    child.signal_group(Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[tokio::test]
async fn the_end_of_a_process_can_be_awaited() {
    let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    assert_eq!(child.ended().await.unwrap().code(), Some(3));
}

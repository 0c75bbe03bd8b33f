use super::*;

#[test]
fn durations_are_read_as_go_writes_them() {
    let check = |text: &str, expect: Option<u64>| {
        assert_eq!(duration(text), expect.map(Millis), "{text:?}");
    };
    check("10s", Some(10_000));
    check("1h30m", Some(5_400_000));
    check("1.5s", Some(1_500));
    check("500ms", Some(500));
    check("0", Some(0));
    check("0s", Some(0));
    check("", None);
    check("10", None);
    check("s", None);
    check("-1s", None);
    check("1d", None);
    check("1.0005s", None);
    check("9999999h", None);
    check("99999999999999999999s", None);
    check("1.s", None);
}

#[test]
fn sizes_are_read_as_docker_writes_them() {
    let check = |text: &str, expect: Option<u64>| {
        assert_eq!(size(text), expect.map(ByteSize), "{text:?}");
    };
    check("64m", Some(64 << 20));
    check("1g", Some(1 << 30));
    check("1.5G", Some(3 << 29));
    check("1MiB", Some(1 << 20));
    check("4096", Some(4096));
    check("1.1k", Some(1126));
    check("", None);
    check("m", None);
    check("-1m", None);
    check("1x", None);
    check("999999999999999999t", None);
}

#[test]
fn processor_time_is_exact() {
    let check = |text: &str, expect: Option<u64>| {
        assert_eq!(cpus(text), expect.map(NanoCpus), "{text:?}");
    };
    check("0.5", Some(500_000_000));
    check("2", Some(2_000_000_000));
    check("0.000000001", Some(1));
    check("0.0000000001", None);
    check("1e3", None);
    check(".5", None);
}

#[test]
fn a_command_line_is_split_as_a_shell_does() {
    let check = |line: &str, expect: Option<&[&str]>| {
        let got = words(line);
        assert_eq!(
            got.as_ref()
                .map(|words| words.iter().map(String::as_str).collect::<Vec<_>>()),
            expect.map(<[&str]>::to_vec),
            "{line:?}"
        );
    };
    check("a b  c", Some(&["a", "b", "c"]));
    check("sh -c 'echo \"x y\"'", Some(&["sh", "-c", "echo \"x y\""]));
    check(r#"a "b \" c" d\ e"#, Some(&["a", "b \" c", "d e"]));
    check("a ''", Some(&["a", ""]));
    check("", Some(&[]));
    check("a 'b", None);
    check("a \"b", None);
    check("a\\", None);
}

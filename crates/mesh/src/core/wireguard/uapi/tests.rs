use proptest::prelude::*;

use super::super::Roaming;
use super::super::machine::tests::{machine, public, secret};
use super::*;

fn hex(bytes: &[u8]) -> String {
    HEX.encode(bytes)
}

fn get(machine: &Machine, secrets: Secrets) -> String {
    let options = GetOptions {
        now: (Instant::now(), UnixTime::from_millis(1_790_000_000_000)),
        listen_port: 51820,
        fwmark: 7,
        secrets,
    };
    write_get(machine, options).expose().clone()
}

fn configured() -> Machine {
    let now = Instant::now();
    let mut machine = machine(now, 1, Roaming::On);
    let text = format!(
        "listen_port=51820\nfwmark=7\nreplace_peers=true\npublic_key={}\n\
         preshared_key={}\nendpoint=[2001:db8::1]:4500\npersistent_keepalive_interval=25\n\
         replace_allowed_ips=true\nallowed_ip=10.0.0.0/24\nallowed_ip=fd00::1/128\n\
         public_key={}\nallowed_ip=10.0.1.1/32\n",
        hex(public(2).as_bytes()),
        hex(&[9; 32]),
        hex(public(3).as_bytes()),
    );
    let set = parse_set(&text).map_err(Errno::number).unwrap();
    assert_eq!((set.listen_port, set.fwmark), (Some(51820), Some(7)));
    set.apply(now, &mut machine).unwrap();
    machine
}

#[test]
fn what_was_set_is_got() {
    let machine = configured();
    let text = get(&machine, Secrets::Shown);
    let (second, third) = (hex(public(2).as_bytes()), hex(public(3).as_bytes()));
    for expected in [
        format!("private_key={}\n", hex(secret(1).expose())),
        "listen_port=51820\nfwmark=7\n".to_owned(),
        format!(
            "public_key={second}\npreshared_key={}\nprotocol_version=1\n\
             endpoint=[2001:db8::1]:4500\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\n",
            hex(&[9; 32])
        ),
        "rx_bytes=0\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/24\n\
         allowed_ip=fd00::1/128\n"
            .to_owned(),
        format!("public_key={third}\n"),
        "persistent_keepalive_interval=0\nallowed_ip=10.0.1.1/32\n".to_owned(),
    ] {
        assert!(
            text.contains(&expected),
            "{expected}\nis missing in\n{text}"
        );
    }
}

#[test]
fn a_managed_device_shows_no_secret() {
    let text = get(&configured(), Secrets::Hidden);
    assert!(text.contains("public_key="));
    for secret in [
        "private_key",
        "preshared_key",
        &hex(&[9; 32]),
        &hex(secret(1).expose()),
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn peers_are_updated_replaced_and_removed() {
    let now = Instant::now();
    let mut machine = configured();
    let mut set = |text: &str| {
        parse_set(text)
            .map_err(Errno::number)
            .unwrap()
            .apply(now, &mut machine)
            .unwrap();
        let count = machine.peers().count();
        let second = machine.peer(&public(2));
        (count, second.map(|peer| peer.allowed.len()))
    };
    let (second, fourth) = (hex(public(2).as_bytes()), hex(public(4).as_bytes()));
    assert_eq!(
        set(&format!("public_key={fourth}\nupdate_only=true\n")),
        (2, Some(2))
    );
    assert_eq!(
        set(&format!("public_key={second}\nallowed_ip=10.0.9.0/24\n")),
        (2, Some(3))
    );
    assert_eq!(
        set(&format!("public_key={second}\nallowed_ip=-10.0.9.0/24\n")),
        (2, Some(2))
    );
    let replaced = "replace_allowed_ips=true\nallowed_ip=10.0.8.0/24";
    assert_eq!(
        set(&format!("public_key={second}\n{replaced}\n")),
        (2, Some(1))
    );
    assert_eq!(
        set(&format!("public_key={second}\nremove=true\n")),
        (1, None)
    );
    assert_eq!(
        set(&format!("replace_peers=true\npublic_key={fourth}\n")),
        (1, None)
    );
}

#[test]
fn a_prefix_that_was_the_third_peers_goes_to_whom_it_is_given() {
    let now = Instant::now();
    let mut machine = configured();
    let text = format!(
        "public_key={}\nallowed_ip=10.0.1.1/32\n",
        hex(public(2).as_bytes())
    );
    parse_set(&text)
        .map_err(Errno::number)
        .unwrap()
        .apply(now, &mut machine)
        .unwrap();
    assert!(machine.peer(&public(3)).unwrap().allowed.is_empty());
}

#[test]
fn a_private_key_of_zeros_removes_the_key() {
    let now = Instant::now();
    let mut machine = configured();
    let text = format!("private_key={}\n", hex(&[0; 32]));
    parse_set(&text)
        .map_err(Errno::number)
        .unwrap()
        .apply(now, &mut machine)
        .unwrap();
    assert_eq!(machine.public_key(), None);
    assert!(!get(&machine, Secrets::Shown).contains("private_key"));
}

#[test]
fn a_line_that_is_not_understood_refuses_the_whole_request() {
    let key = hex(public(2).as_bytes());
    for line in [
        "",
        "listen_port",
        "listen_port=65536",
        "listen_port=+1",
        "listen_port=",
        "private_key=00",
        "replace_peers=false",
        "colour=blue",
        "endpoint=192.0.2.1:1",
        &format!("public_key={key}\nlisten_port=1"),
        &format!("public_key={key}\nendpoint=example.org:1"),
        &format!("public_key={key}\nallowed_ip=10.0.0.0/33"),
        &format!("public_key={key}\nallowed_ip=10.0.0.0"),
        &format!("public_key={key}\nprotocol_version=2"),
        &format!("public_key={}", &key[1..]),
    ] {
        let result = parse_set(&format!("fwmark=1\n{line}\n"));
        assert_eq!(result.err(), Some(Errno::Invalid), "{line}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(lines in prop::collection::vec(
        ("(public_key|endpoint|allowed_ip|private_key|remove|x)", "=?", "[0-9a-f:./+-]{0,70}"),
        0..8,
    )) {
        let lines: Vec<_> = lines.iter().map(|(k, e, v)| format!("{k}{e}{v}")).collect();
        let text = lines.join("\n");
        let _ = parse_set(&text);
    }
}

use super::*;

fn check_text(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(path.to_owned(), text);
    check(&[source]).iter().map(ToString::to_string).collect()
}

#[test]
fn a_clock_beside_the_door_is_found_even_where_a_feature_hides_it() {
    let text = "#[cfg(feature = \"odd\")]\nfn now() { std::time::SystemTime::now(); }\n";
    assert_eq!(
        check_text("crates/mesh/src/run/device.rs", text),
        [
            "crates/mesh/src/run/device.rs:2: time enters through `bastide_linux::clock`, not by \
             `SystemTime`"
        ]
    );
    let tls = "let config = ServerConfig::builder_with_provider(provider);";
    assert_eq!(check_text("crates/control/src/run/tls.rs", tls).len(), 1);
    let tls = "let config = ServerConfig::builder_with_details(provider, time);";
    assert_eq!(check_text("crates/control/src/run/tls.rs", tls), [""; 0]);
}

#[test]
fn the_door_itself_may_read_clocks() {
    let text = "let now = clock_gettime(ClockId::Realtime);";
    assert_eq!(check_text("crates/linux/src/clock.rs", text), [""; 0]);
    assert_eq!(check_text("crates/linux/src/host.rs", text).len(), 2);
}

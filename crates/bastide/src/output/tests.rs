use super::*;

#[test]
fn the_engines_client_never_tells_what_it_sends_and_gets() {
    let check = |target, level, told| {
        assert_eq!(tells_no_secrets(target, level), told, "{target} {level}");
    };
    check("bollard::docker", Level::TRACE, false);
    check("bollard::docker", Level::DEBUG, false);
    check("bollard", Level::DEBUG, false);
    check("bollard::docker", Level::INFO, true);
    check("bollard::docker", Level::WARN, true);
    check("bastide_cluster::engine", Level::TRACE, true);
}

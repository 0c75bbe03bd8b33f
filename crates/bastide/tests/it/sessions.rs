//! `bastide logs` and `bastide exec`: containers of other nodes, under a grant, over the mesh.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use bastide_api::ports;

use crate::containers::{import, static_program};
use crate::site::{SOON, Site, bastide, can_run, sh, until};

/// Writes to both of its outputs and waits; or copies its input and ends with a code of its own.
const SPEAK: &str = r#"
use std::io::IsTerminal;
fn tell() {
    eprintln!("terminal: {}", std::io::stdin().is_terminal());
    std::process::exit(7)
}
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("copy") => {
            std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).unwrap();
            tell()
        }
        Some("tell") => tell(),
        _ => {
            println!("I speak");
            eprintln!("I warn");
            loop { std::thread::park() }
        }
    }
}
"#;

const COMPOSE: &str = "
name: shop
services:
  web:
    image: speak
    deploy: { replicas: 2 }
";

#[test]
fn logs_and_commands_reach_containers_of_other_nodes() {
    if !can_run(&["ping", "dockerd", "docker", "script"]) {
        return;
    }
    let Some(speak) = static_program(SPEAK) else {
        return;
    };
    let mut site = Site::three_and("sessions", "");
    site.start_engines(&["atlas", "boreas"]);
    site.up();
    site.join("boreas", &[]);
    site.until_swarm(&["atlas", "boreas"]);
    import(&site, "atlas", "speak", &speak);
    site.run(
        "atlas",
        &format!("cat > /tmp/compose.yaml <<'E'\n{COMPOSE}\nE"),
    );
    site.bastide("atlas", &["deploy", "/tmp/compose.yaml"]);
    site.run("atlas", "rm /tmp/compose.yaml");

    // Each line says from where it is, and standard error stays apart.
    let mut said = site.try_bastide("atlas", &["logs", "shop/web"]);
    until("what both wrote", || {
        said = site.try_bastide("atlas", &["logs", "shop/web"]);
        let text = said.text();
        text.contains("atlas web.") && text.contains("boreas web.")
    });
    assert!(said.text().lines().all(|line| line.ends_with("| I speak")));
    let warned = String::from_utf8_lossy(&said.stderr);
    assert_eq!(
        warned
            .lines()
            .filter(|line| line.ends_with("| I warn"))
            .count(),
        2
    );
    let said = site.bastide("atlas", &["logs", "shop/web", "--node", "boreas"]);
    assert!(!said.contains("atlas") && said.contains("boreas web."));

    // What is typed goes there, what comes back is whole, and the code is the command's.
    let words = [
        "exec", "-i", "--node", "boreas", "shop/web", "/speak", "copy",
    ];
    let typed = "a line\n".repeat(20_000);
    let ended = site.output("atlas", bastide(&words), &typed);
    assert_eq!(ended.text(), typed);
    let warned = String::from_utf8_lossy(&ended.stderr);
    assert!(warned.contains("terminal: false"), "{warned}");
    assert_eq!(ended.status.code(), Some(7));

    // A terminal on both ends.
    let program = crate::site::BASTIDE;
    let on_terminal = format!(
        "script -qec '{program} exec -it --node boreas shop/web /speak tell' /dev/null; echo $?"
    );
    let text = site.output("atlas", sh(&on_terminal), "").text();
    assert!(text.contains("terminal: true"), "{text}");
    assert!(text.trim_end().ends_with('7'), "{text}");

    // What cannot be is said, with a code of its own.
    let absent = site.try_bastide("atlas", &["exec", "shop/web", "/nothing"]);
    assert!(!absent.status.success());
    let unknown = site.try_bastide("atlas", &["logs", "shop/db"]);
    assert_eq!(unknown.status.code(), Some(2));
    // Only where the operator's token is can a grant be had.
    let elsewhere = site.try_bastide("boreas", &["exec", "shop/web", "/speak"]);
    assert_eq!(elsewhere.status.code(), Some(3));

    // Whoever comes without one gets nothing, member or not.
    let address = site.status("boreas").unwrap();
    let atlas = address
        .nodes
        .iter()
        .find(|node| node.name.as_str() == "atlas");
    let atlas: Ipv4Addr = atlas.unwrap().address;
    let refused = site.lab().within("boreas", || {
        let mut stream = TcpStream::connect((atlas, ports::SESSIONS)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
            .write_all(b"{\"grant\":\"{}\",\"signature\":\"AAAA\"}\n")
            .unwrap();
        let mut text = String::new();
        // A frame's head may be no text, so its payload is looked for as bytes.
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes));
        text
    });
    let refused = refused.unwrap();
    assert!(refused.contains("signature of the grant"), "{refused}");
    site.down();
}

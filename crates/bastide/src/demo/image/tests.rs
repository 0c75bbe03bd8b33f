use std::collections::BTreeMap;
use std::io::Read;

use super::*;

const PROGRAM_BYTES: &[u8] = b"\x7fELF and so on";

fn files(archive: &[u8]) -> BTreeMap<String, (u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let header = entry.header().clone();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.insert(
            path,
            (header.mode().unwrap(), header.mtime().unwrap(), content),
        );
    }
    found
}

#[test]
fn the_same_program_gives_the_same_archive() {
    let once = docker_archive(PROGRAM_BYTES, "hello", "1").unwrap();
    assert_eq!(once, docker_archive(PROGRAM_BYTES, "hello", "1").unwrap());
    assert_ne!(once, docker_archive(b"another", "hello", "1").unwrap());
}

#[test]
fn every_digest_in_the_archive_is_that_of_what_it_names() {
    let archive = files(&docker_archive(PROGRAM_BYTES, "hello", "1").unwrap());
    let read =
        |path: &str| -> serde_json::Value { serde_json::from_slice(&archive[path].2).unwrap() };
    let manifest = &read("manifest.json")[0];
    assert_eq!(manifest["RepoTags"], json!(["hello:1"]));
    let config_path = manifest["Config"].as_str().unwrap();
    assert_eq!(
        config_path,
        format!("{}.json", sha256_hex(&archive[config_path].2))
    );
    let layer_path = manifest["Layers"][0].as_str().unwrap();
    let layer_id = sha256_hex(&archive[layer_path].2);
    assert_eq!(layer_path, format!("{layer_id}/layer.tar"));
    let config = read(config_path);
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!([format!("sha256:{layer_id}")])
    );
    assert_eq!(read("repositories"), json!({"hello": {"1": layer_id}}));
    let layer = files(&archive[layer_path].2);
    assert_eq!(layer.keys().collect::<Vec<_>>(), ["hello"]);
    assert_eq!(layer["hello"], (0o755, 0, PROGRAM_BYTES.to_vec()));
}

#[test]
fn nothing_of_this_machine_is_in_a_header() {
    let bytes = docker_archive(PROGRAM_BYTES, "hello", "1").unwrap();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let header = entry.unwrap().header().clone();
        assert_eq!(
            (
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.mtime().unwrap()
            ),
            (0, 0, 0)
        );
        assert_eq!(header.username(), Ok(Some("")));
    }
}

#[test]
fn the_image_says_what_the_dockerfile_beside_the_program_says() {
    let dockerfile = include_str!("../../../../../examples/hello/Dockerfile");
    let archive = files(&docker_archive(PROGRAM_BYTES, "hello", "1").unwrap());
    let config_path = archive
        .keys()
        .find(|path| path.len() == 64 + ".json".len())
        .unwrap();
    let config: serde_json::Value = serde_json::from_slice(&archive[config_path].2).unwrap();
    let config = &config["config"];
    for line in [
        format!("USER {}", config["User"].as_str().unwrap()),
        format!("ENTRYPOINT {}", config["Entrypoint"]),
        format!("CMD {}", config["Cmd"]),
        format!("STOPSIGNAL {}", config["StopSignal"].as_str().unwrap()),
    ] {
        assert!(dockerfile.lines().any(|known| known == line), "{line}");
    }
}

#[test]
fn the_compose_file_beside_the_program_asks_for_this_image_three_times() {
    let compose = include_str!("../../../../../examples/hello/compose.yaml");
    let name = "hello".parse().unwrap();
    let stack = bastide_stack::parse(&name, compose).unwrap();
    let stack = serde_json::to_value(&stack).unwrap();
    let service = &stack["services"]["web"];
    assert_eq!(service["replicas"], json!(3), "{stack:#}");
    assert!(
        service["image"].to_string().contains("hello:1"),
        "{stack:#}"
    );
}

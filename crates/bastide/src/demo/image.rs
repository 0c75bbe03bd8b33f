//! The demo's image, made from one static program, and the same to the last bit each time.

use std::io;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde_json::json;

/// Whom the program runs as: nobody, by number, because the image holds no list of users.
const USER: &str = "65534:65534";
/// The program inside the image.
const PROGRAM: &str = "hello";

/// Returns an image in the format of `docker save`, which `docker load` takes: one layer with the
/// program in it, and what `examples/hello/Dockerfile` says about how to run it.
///
/// Nothing of this machine and this moment goes into it, so the same program gives the same digest.
pub fn docker_archive(binary: &[u8], name: &str, tag: &str) -> io::Result<Vec<u8>> {
    let layer = tar_of(&[File {
        path: PROGRAM,
        mode: 0o755,
        content: binary,
    }])?;
    let layer_id = sha256_hex(&layer);
    let config = config(&layer_id).to_string();
    let config_path = format!("{}.json", sha256_hex(config.as_bytes()));
    let layer_path = format!("{layer_id}/layer.tar");
    let manifest = json!([{
        "Config": config_path,
        "RepoTags": [format!("{name}:{tag}")],
        "Layers": [layer_path],
    }]);
    let repositories = json!({ name: { tag: layer_id } });
    let (manifest, repositories) = (manifest.to_string(), repositories.to_string());
    tar_of(&[
        File::text(&config_path, &config),
        File {
            path: &layer_path,
            mode: 0o644,
            content: &layer,
        },
        File::text("manifest.json", &manifest),
        File::text("repositories", &repositories),
    ])
}

/// A file of an archive.
struct File<'a> {
    path: &'a str,
    mode: u32,
    content: &'a [u8],
}

impl<'a> File<'a> {
    fn text(path: &'a str, content: &'a str) -> Self {
        Self {
            path,
            mode: 0o644,
            content: content.as_bytes(),
        }
    }
}

fn config(layer_id: &str) -> serde_json::Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": [format!("/{PROGRAM}")],
            "Cmd": ["serve"],
            "Env": ["PATH=/"],
            "ExposedPorts": { "8080/tcp": {} },
            "User": USER,
            "StopSignal": "SIGKILL",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_id}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "bastide demo" }],
    })
}

/// Returns this machine's architecture in the words of images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn tar_of(files: &[File<'_>]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(file.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(file.content.len() as u64);
        archive.append_data(&mut header, file.path, file.content)?;
    }
    archive.into_inner()
}

fn sha256_hex(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    HEXLOWER.encode(digest.as_ref())
}

#[cfg(test)]
mod tests;

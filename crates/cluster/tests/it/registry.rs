//! An image made from the fixture, and a registry that serves it on a host's loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use aws_lc_rs::digest;
use serde_json::json;

use crate::wire::Net;

const ADDRESS: &str = "127.0.0.1:5443";

/// An image, by digest.
pub struct Image {
    pub digest: String,
    blobs: BTreeMap<String, (&'static str, Vec<u8>)>,
}

fn sum(bytes: &[u8]) -> String {
    let sum = digest::digest(&digest::SHA256, bytes);
    format!("sha256:{}", data_encoding::HEXLOWER.encode(sum.as_ref()))
}

impl Image {
    /// Compiles the fixture and packs it; `None` if this machine cannot build static programs.
    pub fn build(folder: &Path) -> Option<Self> {
        let program = folder.join("fixture");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixture.rs");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let built = Command::new(rustc)
            .args(["--edition", "2024", "--target", "x86_64-unknown-linux-musl"])
            .args(["-C", "opt-level=1", "-C", "strip=symbols", "-o"])
            .args([&program, &source])
            .output();
        if !built.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let mut layer = tar::Builder::new(Vec::new());
        layer.append_path_with_name(&program, "fixture").unwrap();
        let layer = layer.into_inner().unwrap();
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": { "Entrypoint": ["/fixture"], "Cmd": ["serve", "80"] },
            "rootfs": { "type": "layers", "diff_ids": [sum(&layer)] },
        });
        let config = config.to_string().into_bytes();
        let describe = |media: &str, bytes: &[u8]| json!({ "mediaType": media, "size": bytes.len(), "digest": sum(bytes) });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": [describe("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = sum(&manifest);
        let blobs = [(MANIFEST, manifest), (BLOB, config), (BLOB, layer)];
        let blobs = blobs
            .into_iter()
            .map(|(kind, bytes)| (sum(&bytes), (kind, bytes)))
            .collect();
        Some(Self { digest, blobs })
    }

    /// Names the image as engines pull it.
    pub fn name(&self) -> String {
        format!("{ADDRESS}/fixture@{}", self.digest)
    }

    /// Serves the image on the loopback of `net` for as long as the test's process lives.
    pub fn serve(self: &Arc<Self>, net: &Net) {
        let listener = net.inside(|| TcpListener::bind(ADDRESS).unwrap());
        let image = Arc::clone(self);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let image = Arc::clone(&image);
                std::thread::spawn(move || image.answer(&stream));
            }
        });
    }

    /// Answers requests of the distribution API (OCI distribution specification, "Pull").
    fn answer(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut first = String::new();
            reader
                .read_line(&mut first)
                .ok()
                .filter(|count| *count != 0)?;
            let mut line = first.clone();
            while line.trim() != "" {
                line.clear();
                reader.read_line(&mut line).ok()?;
            }
            let mut words = first.split(' ');
            let (method, path) = (words.next()?, words.next()?);
            let empty = ("text/plain", Vec::new());
            let digest = path.rsplit('/').next()?;
            let (status, (kind, body)) = match self.blobs.get(digest) {
                Some(blob) => ("200 OK", blob),
                None if path == "/v2/" => ("200 OK", &empty),
                None => ("404 Not Found", &empty),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
                 Docker-Content-Digest: {digest}\r\n\r\n",
                body.len()
            );
            let mut stream = stream;
            stream.write_all(head.as_bytes()).ok()?;
            if method == "GET" {
                stream.write_all(body).ok()?;
            }
        }
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BLOB: &str = "application/octet-stream";

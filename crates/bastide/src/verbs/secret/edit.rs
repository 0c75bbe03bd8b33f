//! Changing a secret in an editor: in memory, in a folder that nobody else can enter.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use bastide_api::Secret;
use serde_json::{Map, Value};

use super::input;
use crate::exit::{Exit, Failure};

/// A file system in memory that every Linux has.
const MEMORY: &str = "/dev/shm";
/// The editor if nobody says which.
const EDITOR: &str = "vi";

/// A folder that is gone, with what is in it, when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        let is_memory = rustix::fs::statfs(MEMORY).is_ok_and(|about| about.f_type == 0x0102_1994);
        ensure!(
            is_memory,
            Failure::new(
                Exit::Failed,
                format!("`{MEMORY}` is not in memory: nothing was written")
            )
            .hint("`bastide secret get PATH --json`, change it, `bastide secret put PATH -`")
        );
        let mut name = [0; 12];
        aws_lc_rs::rand::fill(&mut name).context("the system's random source does not answer")?;
        let name = data_encoding::HEXLOWER.encode(&name);
        let path = Path::new(MEMORY).join(format!("bastide-edit-{name}"));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("could not make `{}`", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Lets a person change fields; `None` if nothing was changed.
pub fn edited(before: &Map<String, Value>) -> anyhow::Result<Option<Map<String, Value>>> {
    let folder = Folder::make()?;
    let path = folder.0.join("secret.json");
    let text = serde_json::to_vec_pretty(before).context("could not write the fields down")?;
    let text = Secret::new(text);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .context("could not make the file to edit")?;
    std::io::Write::write_all(&mut file, text.expose()).context("could not write the file")?;
    drop(file);
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|it| !it.trim().is_empty()));
    let editor = editor.unwrap_or_else(|| EDITOR.to_owned());
    let mut words = editor.split_whitespace();
    let status = Command::new(words.next().unwrap_or(EDITOR))
        .args(words)
        .arg(&path)
        .status()
        .with_context(|| format!("could not start the editor `{editor}`"))?;
    ensure!(
        status.success(),
        "the editor ended with {status}: nothing was written"
    );
    let after = fs::read_to_string(&path).context("could not read what was edited")?;
    let after = Secret::new(after);
    let after = input::object(after.expose(), "what was edited")?;
    Ok((after != *before).then_some(after))
}

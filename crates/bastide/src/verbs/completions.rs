//! Completion: the shell asks this program how a line goes on, which knows its verbs and options from
//! their definitions, and the paths of secrets, policies and leases from the server.

use clap::{Command, CommandFactory};
use tokio::time::{Duration, timeout};

use crate::cli::{At, Cli, Complete, Completions, Shell};
use crate::output;
use crate::verbs::{login, reach, secret};

/// How long a person waits for a key press.
const WITHIN: Duration = Duration::from_secs(2);

const BASH: &str = r#"_bastide() {
    local IFS=$'\n'
    COMPREPLY=($(bastide complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [[ ${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
complete -F _bastide bastide"#;

const ZSH: &str = r#"#compdef bastide
_bastide() {
    local -a found
    found=("${(@f)$(bastide complete -- "${words[@]:1:$((CURRENT - 1))}" 2>/dev/null)}")
    compadd -S '' -- $found
}
compdef _bastide bastide"#;

const FISH: &str = r"function __bastide
    set -l words (commandline -opc) (commandline -ct)
    bastide complete -- $words[2..] 2>/dev/null
end
complete -c bastide -f -a '(__bastide)'";

/// Prints what a shell reads at its start.
#[expect(clippy::unnecessary_wraps, reason = "as every verb")]
pub fn print(arguments: &Completions) -> anyhow::Result<()> {
    output::data(match arguments.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    });
    Ok(())
}

/// Prints how a line goes on, a possibility each line.
pub async fn complete(arguments: Complete) -> anyhow::Result<()> {
    let mut words = arguments.words;
    let last = words.pop().unwrap_or_default();
    let mut command = Cli::command();
    command.build();
    let (mut at, mut verbs, mut values) = (&command, Vec::new(), 0);
    for word in &words {
        match at.find_subcommand(word).filter(|_| values == 0) {
            Some(deeper) => {
                verbs.push(deeper.get_name().to_owned());
                at = deeper;
            }
            None if word.starts_with('-') => {}
            None => values += 1,
        }
    }
    let mut found = known(at, &last, values == 0);
    let verbs: Vec<_> = verbs.iter().map(String::as_str).collect();
    if !last.starts_with('-')
        && let Ok(Ok(more)) = timeout(WITHIN, told(&verbs, values, &last)).await
    {
        found.extend(more);
    }
    found.sort();
    found.dedup();
    found.iter().for_each(output::data);
    Ok(())
}

/// Returns what the definitions know.
fn known(at: &Command, last: &str, takes_verb: bool) -> Vec<String> {
    let mut found = Vec::new();
    if last.starts_with('-') {
        let options = at.get_arguments().filter(|it| !it.is_hide_set());
        found.extend(
            options
                .filter_map(|it| it.get_long())
                .map(|it| format!("--{it}")),
        );
    } else if takes_verb {
        let verbs = at.get_subcommands().filter(|it| !it.is_hide_set());
        found.extend(verbs.map(|it| it.get_name().to_owned()));
        let first = at.get_positionals().next();
        let values = first
            .map(clap::Arg::get_possible_values)
            .unwrap_or_default();
        found.extend(values.iter().map(|it| it.get_name().to_owned()));
    }
    found.retain(|it| it.starts_with(last));
    found
}

/// Returns what the server knows.
async fn told(verbs: &[&str], values: usize, last: &str) -> anyhow::Result<Vec<String>> {
    let client = reach::client(&At::default()).await?;
    let split = last.rfind('/').map_or(0, |at| at + 1);
    let (folder, begun) = last.split_at(split);
    let names = match (verbs, values) {
        (["secret", "get" | "put" | "list" | "rm" | "edit"], 0) => {
            let folder = Some(folder).filter(|it| !it.is_empty());
            secret::list(&client, folder).await?
        }
        (["policy", "get" | "put" | "rm"], 0) => keys(&client, "/v1/sys/policies/acl").await?,
        (["lease", _], 0) => {
            let path = format!("/v1/sys/leases/lookup/{}", login::path(folder));
            keys(&client, &path).await?
        }
        _ => Vec::new(),
    };
    let fitting = names.into_iter().filter(|name| name.starts_with(begun));
    Ok(fitting.map(|name| format!("{folder}{name}")).collect())
}

async fn keys(client: &bastide_client::Client, path: &str) -> anyhow::Result<Vec<String>> {
    let listed = client.call("LIST", path, None).await?;
    let keys = listed["keys"].as_array().into_iter().flatten();
    Ok(keys
        .filter_map(|key| key.as_str().map(str::to_owned))
        .collect())
}

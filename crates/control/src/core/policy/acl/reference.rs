//! The engine against the published rules, written down as plainly as they are.

use bastide_api::Secret;

use super::*;
use crate::core::entropy::Entropy;

/// A rule of the reference: its pattern as it was written, and what it grants.
type Plain = (String, Vec<&'static str>);

fn has_plus(pattern: &str) -> bool {
    pattern.split('/').any(|segment| segment == "+")
}

/// Whether a pattern matches, by comparing segment after segment.
fn fits(pattern: &str, path: &str) -> bool {
    if !has_plus(pattern) {
        return match pattern.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == pattern,
        };
    }
    let star = pattern.ends_with('*');
    let wanted: Vec<&str> = pattern.trim_end_matches('*').split('/').collect();
    let given: Vec<&str> = path.split('/').collect();
    if given.len() < wanted.len() || !star && given.len() != wanted.len() {
        return false;
    }
    (0..wanted.len()).all(|at| {
        wanted[at] == "+"
            || wanted[at] == given[at]
            || star && at + 1 == wanted.len() && given[at].starts_with(wanted[at])
    })
}

/// Whether `one` has the lower priority: rules a to e.
fn is_lower(one: &str, other: &str) -> bool {
    let first = |pattern: &str| {
        let plus = has_plus(pattern).then(|| pattern.find('+')).flatten();
        plus.unwrap_or(pattern.trim_end_matches('*').len())
    };
    let pluses = |pattern: &str| pattern.split('/').filter(|it| *it == "+").count();
    if first(one) != first(other) {
        return first(one) < first(other);
    }
    if one.ends_with('*') != other.ends_with('*') {
        return one.ends_with('*');
    }
    if pluses(one) != pluses(other) {
        return pluses(one) > pluses(other);
    }
    if one.len() != other.len() {
        return one.len() < other.len();
    }
    one < other
}

fn is_exact(pattern: &str) -> bool {
    !pattern.ends_with('*') && !has_plus(pattern)
}

/// What the rules of one pattern grant together: `deny` in any is `deny`.
fn together(rules: &[Plain], pattern: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = rules
        .iter()
        .filter(|(known, _)| known == pattern)
        .flat_map(|(_, names)| names.iter().copied())
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.contains(&"deny") || names.is_empty() {
        vec!["deny"]
    } else {
        names
    }
}

fn judge(rules: &[Plain], path: &str, is_list: bool) -> Vec<&'static str> {
    let bare = path.trim_end_matches('/');
    let spellings: &[&str] = if is_list { &[path, bare] } else { &[bare] };
    for spelling in spellings {
        if rules
            .iter()
            .any(|(pattern, _)| is_exact(pattern) && pattern == spelling)
        {
            return together(rules, spelling);
        }
    }
    for spelling in spellings {
        let mut best: Option<&str> = None;
        for (pattern, _) in rules.iter().filter(|(pattern, _)| !is_exact(pattern)) {
            if fits(pattern, spelling) && best.is_none_or(|best| is_lower(best, pattern)) {
                best = Some(pattern);
            }
        }
        if let Some(best) = best {
            return together(rules, best);
        }
    }
    vec!["deny"]
}

/// Draws things for one test, the same for each run.
struct Dice(Entropy);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        usize::from(u16::from_be_bytes(self.0.bytes())) % sides
    }

    fn pattern(&mut self) -> String {
        let segments = 1 + self.below(4);
        let drawn: Vec<&str> = (0..segments)
            .map(|_| ["a", "b", "ab", "+", "a+b"][self.below(5)])
            .collect();
        let text = drawn.join("/");
        match self.below(5) {
            0 => format!("{text}/"),
            1 => format!("{text}/*"),
            2 if !text.ends_with('+') => format!("{text}*"),
            3 if segments == 1 => "*".to_owned(),
            _ => text,
        }
    }

    fn rule(&mut self) -> Plain {
        let names = ["create", "deny", "list", "read", "sudo", "update"];
        let drawn = (0..=self.below(3))
            .map(|_| names[self.below(names.len())])
            .collect();
        (self.pattern(), drawn)
    }
}

fn paths() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last = vec![String::new()];
    for _ in 0..4 {
        last = last
            .iter()
            .flat_map(|start| {
                ["a", "b", "ab", "a+b"].map(|segment| match start.as_str() {
                    "" => segment.to_owned(),
                    start => format!("{start}/{segment}"),
                })
            })
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

#[test]
fn the_engine_judges_as_the_published_rules_do() {
    let paths: Vec<(String, ApiPath, ApiPath)> = paths()
        .into_iter()
        .map(|text| {
            let bare = ApiPath::parse(&text).unwrap();
            let folder = bare.clone().into_folder();
            (text, bare, folder)
        })
        .collect();
    let mut dice = Dice(Entropy::new(&Secret::new([21; 32])));
    let (mut granted, mut denied) = (0_u32, 0_u32);
    for round in 0..400 {
        let rules: Vec<Plain> = (0..=dice.below(10)).map(|_| dice.rule()).collect();
        let texts: Vec<String> = rules
            .iter()
            .map(|(path, names)| format!("path \"{path}\" {{ capabilities = {names:?} }}"))
            .collect();
        // Parted into two policies, so that they are merged as a token's are.
        let (one, other) = texts.split_at(texts.len() / 2);
        let policies = [one, other].map(|it| Policy::parse(&it.join("\n")).unwrap());
        let acl = Acl::new(&policies);
        for (text, bare, folder) in &paths {
            let expect = judge(&rules, text, false);
            let found = acl.capabilities(bare, None);
            assert_eq!(found, expect, "round {round}, {text}, of {texts:#?}");
            let listed = judge(&rules, &format!("{text}/"), true);
            let found = acl.capabilities(folder, None);
            assert_eq!(found, listed, "round {round}, {text}/, of {texts:#?}");
            let data = Map::new();
            for (operation, path, capability, names) in [
                (Operation::Read, bare, "read", &expect),
                // A slash leads around no rule.
                (Operation::Update, folder, "update", &expect),
                (Operation::List, folder, "list", &listed),
            ] {
                let question = Question {
                    operation,
                    path,
                    folded: None,
                    data: &data,
                    wrap: None,
                    sudo: false,
                };
                let is_allowed = acl.authorise(&question).is_some();
                assert_eq!(is_allowed, names.contains(&capability), "{texts:#?} {path}");
                *(if is_allowed {
                    &mut granted
                } else {
                    &mut denied
                }) += 1;
            }
        }
    }
    assert!(10_000 < granted && 10_000 < denied, "{granted} {denied}");
}

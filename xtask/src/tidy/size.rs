//! What has grown long. Listed, not judged: a longer file can be the better one.

use super::source::Source;
use super::tokens::Token;

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Returns a line for each file and function that is longer than usual.
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut long = Vec::new();
    for source in sources {
        if FILE_LINES < source.lines {
            long.push(format!("{} has {} lines", source.path, source.lines));
        }
        for (name, start, lines) in functions(&source.tokens) {
            if FUNCTION_LINES < lines {
                long.push(format!(
                    "{}:{start}: `{name}` has {lines} lines",
                    source.path
                ));
            }
        }
    }
    long
}

/// Returns the name, first line and length of each function that has a body.
fn functions(tokens: &[Token]) -> Vec<(&str, usize, usize)> {
    let mut functions = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let is_name = pair[1]
            .text
            .starts_with(|letter: char| letter.is_alphabetic() || letter == '_');
        if pair[0].text == "fn"
            && is_name
            && let Some(end) = end_of_body(&tokens[at..])
        {
            functions.push((pair[1].text.as_str(), pair[0].line, end - pair[0].line + 1));
        }
    }
    functions
}

fn end_of_body(tokens: &[Token]) -> Option<usize> {
    let mut depth = 0;
    for token in tokens {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return None,
            _ => continue,
        }
        if depth == 0 && token.text == "}" {
            return Some(token.line);
        }
    }
    None
}

#[cfg(test)]
mod tests;

//! Patterns in which `*` stands for anything, as roles use them to bound names.

/// Returns whether the whole of `text` is of the form `pattern`. Only `*` means more than itself, also
/// nothing. Case counts.
pub fn is_match(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        // The first place that fits is as good as any later one.
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

/// Returns whether one of `texts` is of one of the forms `patterns`; without patterns everything is.
pub fn admits<'t>(patterns: &[String], texts: impl IntoIterator<Item = &'t str>) -> bool {
    patterns.is_empty()
        || texts
            .into_iter()
            .any(|text| patterns.iter().any(|pattern| is_match(pattern, text)))
}

#[cfg(test)]
mod tests;

//! What is fuzzed in this crate: compose files and names of images.

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use crate::{COMPOSE_BYTES_MAX, Digest, ImageRef, SERVICES_MAX, Stack, parse};

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[("compose", compose), ("image_name", image_name)];

/// Most errors that are told of one file.
const ERRORS_MAX: usize = 100;

/// What is taken survives the form in which it is stored; what is not is told with its place.
fn compose(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let name = "shop".parse().expect("a name");
    match parse(&name, text) {
        Ok(stack) => {
            assert!(text.len() <= COMPOSE_BYTES_MAX);
            assert!((1..=SERVICES_MAX).contains(&stack.services.len()));
            let stored = serde_json::to_string(&stack).expect("a stack is plain JSON");
            let again: Stack = serde_json::from_str(&stored).expect("what was stored is read");
            assert_eq!(again, stack);
        }
        Err(errors) => {
            assert!((1..=ERRORS_MAX).contains(&errors.len()));
            for error in errors {
                assert!(error.line >= 1 && error.column >= 1, "{error}");
                assert!(error.to_string().len() < 8 * 1024 + text.len());
            }
        }
    }
    // The same JSON also comes in a view.
    if let Ok(stack) = serde_json::from_str::<Stack>(text) {
        let stored = serde_json::to_string(&stack).expect("a stack is plain JSON");
        let again: Stack = serde_json::from_str(&stored).expect("what was stored is read");
        assert_eq!(again, stack);
    }
}

/// A name has one spelling.
fn image_name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    let Ok(image) = text.parse::<ImageRef>() else {
        return;
    };
    assert_eq!(image.to_string(), text);
    assert!(!image.repository().is_empty() && !text.contains([' ', '\n', '\\', '\0']));
    // Moved to a registry it is still a name, and still climbs nowhere.
    let registry = "127.0.0.1:5443".parse().expect("an address");
    let moved = image.at(registry, Digest::from_sha256([7; 32])).to_string();
    assert!(!moved.split('/').any(|word| matches!(word, "" | "." | "..")));
    // A name of full length has no room for a registry before it.
    if image.repository().len() < 200 {
        assert!(moved.parse::<ImageRef>().is_ok(), "{moved}");
    }
}

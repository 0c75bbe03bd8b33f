//! Rust's tokens, as far as the rules need them: no comments, no strings.

/// A token and its line, which counts from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// An identifier, a number, `::`, or a single mark.
    pub text: String,
    /// The line.
    pub line: usize,
}

/// Splits a file into tokens. Comments, strings, characters and lifetimes are left out.
pub fn split(text: &str) -> Vec<Token> {
    let mut splitter = Splitter {
        letters: text.chars().collect(),
        at: 0,
        line: 1,
    };
    let mut tokens = Vec::new();
    while let Some(letter) = splitter.peek(0) {
        let line = splitter.line;
        if splitter.skip_insignificant(letter) {
            continue;
        }
        let text = if letter.is_alphanumeric() || letter == '_' {
            splitter.word()
        } else if letter == ':' && splitter.peek(1) == Some(':') {
            splitter.skip(2);
            "::".to_owned()
        } else {
            splitter.skip(1);
            letter.to_string()
        };
        tokens.push(Token { text, line });
    }
    tokens
}

struct Splitter {
    letters: Vec<char>,
    at: usize,
    line: usize,
}

impl Splitter {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == Some('\n') {
                self.line += 1;
            }
            self.at += 1;
        }
    }

    fn skip_until(&mut self, is_end: impl Fn(&Self) -> bool) {
        while self.at < self.letters.len() && !is_end(self) {
            self.skip(1);
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        self.skip_until(|it| {
            !it.peek(0)
                .is_some_and(|it| it.is_alphanumeric() || it == '_')
        });
        self.letters[start..self.at].iter().collect()
    }

    /// Skips a blank, a comment, a string, a character or a lifetime, if one begins here.
    fn skip_insignificant(&mut self, letter: char) -> bool {
        match (letter, self.peek(1)) {
            (letter, _) if letter.is_whitespace() => self.skip(1),
            ('/', Some('/')) => self.skip_until(|it| it.peek(0) == Some('\n')),
            ('/', Some('*')) => self.skip_comment(),
            ('"', _) => self.skip_string(),
            ('r' | 'b' | 'c', _) if self.raw_string_marks().is_some() => self.skip_raw_string(),
            ('b' | 'c', Some('"')) => {
                self.skip(1);
                self.skip_string();
            }
            ('b', Some('\'')) => {
                self.skip(1);
                self.skip_quote();
            }
            ('\'', _) => self.skip_quote(),
            _ => return false,
        }
        true
    }

    fn skip_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return,
                _ => {
                    self.skip(1);
                    continue;
                }
            }
            self.skip(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_string(&mut self) {
        self.skip(1);
        while let Some(letter) = self.peek(0) {
            self.skip(if letter == '\\' { 2 } else { 1 });
            if letter == '"' {
                return;
            }
        }
    }

    /// Returns how long the beginning of a raw string is here, and how many `#` it has.
    fn raw_string_marks(&self) -> Option<(usize, usize)> {
        let prefix = match (self.peek(0), self.peek(1)) {
            (Some('r'), _) => 1,
            (Some('b' | 'c'), Some('r')) => 2,
            _ => return None,
        };
        let after = &self.letters[(self.at + prefix).min(self.letters.len())..];
        let marks = after.iter().take_while(|letter| **letter == '#').count();
        (self.peek(prefix + marks) == Some('"')).then_some((prefix + marks + 1, marks))
    }

    fn skip_raw_string(&mut self) {
        let Some((start, marks)) = self.raw_string_marks() else {
            return;
        };
        self.skip(start);
        self.skip_until(|it| {
            it.peek(0) == Some('"') && (1..=marks).all(|ahead| it.peek(ahead) == Some('#'))
        });
        self.skip(1 + marks);
    }

    /// Skips a character, or the mark and name of a lifetime.
    fn skip_quote(&mut self) {
        if self.peek(1) == Some('\\') {
            self.skip(3);
            self.skip_until(|it| it.peek(0) == Some('\''));
            self.skip(1);
        } else if self.peek(2) == Some('\'') {
            self.skip(3);
        } else {
            self.skip(1);
            self.word();
        }
    }
}

#[cfg(test)]
mod tests;

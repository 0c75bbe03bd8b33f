//! The part of HCL 1 that policies are written in: attributes, labelled blocks, lists, objects,
//! strings, numbers, booleans and comments.

use serde_json::{Map, Number, Value};

/// Deepest nesting.
const DEPTH_MAX: usize = 8;

/// Why a text is not HCL: what, and on which line, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct HclError {
    line: usize,
    what: String,
}

/// `key = value`, or `key "label" { … }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// On which line it begins.
    pub line: usize,
    /// The word before.
    pub key: String,
    /// The labels of a block.
    pub labels: Vec<String>,
    /// The value; of a block an object.
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(Number),
    Sign(char),
}

/// Parses a text into its items.
pub fn parse(text: &str) -> Result<Vec<Item>, HclError> {
    let mut parser = Parser {
        tokens: lex(text)?,
        at: 0,
    };
    let items = parser.items(0)?;
    match parser.peek() {
        None => Ok(items),
        Some(_) => Err(parser.wrong("expected a name")),
    }
}

fn lex(text: &str) -> Result<Vec<(usize, Token)>, HclError> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let wrong = move |what: &str| HclError {
            line,
            what: what.to_owned(),
        };
        match c {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|&c| c != '\n').is_some() {},
            '/' if chars.next_if_eq(&'/').is_some() => {
                while chars.next_if(|&c| c != '\n').is_some() {}
            }
            '/' if chars.next_if_eq(&'*').is_some() => {
                let mut before = ' ';
                loop {
                    let c = chars.next().ok_or_else(|| wrong("comment has no end"))?;
                    line += usize::from(c == '\n');
                    if before == '*' && c == '/' {
                        break;
                    }
                    before = c;
                }
            }
            '"' => {
                let mut inner = String::new();
                loop {
                    match chars.next() {
                        None | Some('\n') => return Err(wrong("string has no end")),
                        Some('"') => break,
                        Some('\\') => inner.push(match chars.next() {
                            Some('n') => '\n',
                            Some('t') => '\t',
                            Some('r') => '\r',
                            Some(c @ ('"' | '\\' | '/')) => c,
                            _ => return Err(wrong("string has an unknown escape")),
                        }),
                        Some(c) => inner.push(c),
                    }
                }
                tokens.push((line, Token::Text(inner)));
            }
            '{' | '}' | '[' | ']' | '=' | ',' | ':' => tokens.push((line, Token::Sign(c))),
            c if c.is_ascii_digit() || c == '-' => {
                let mut digits = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || *c == '.') {
                    digits.push(c);
                }
                let number = digits.parse::<i64>().map(Number::from).ok();
                let number = number.or_else(|| Number::from_f64(digits.parse().ok()?));
                let number = number.ok_or_else(|| wrong("number is not valid"))?;
                tokens.push((line, Token::Number(number)));
            }
            c if c.is_alphabetic() || c == '_' => {
                let mut word = String::from(c);
                let inner = |c: &char| c.is_alphanumeric() || "_-.".contains(*c);
                while let Some(c) = chars.next_if(inner) {
                    word.push(c);
                }
                tokens.push((line, Token::Word(word)));
            }
            _ => return Err(wrong("unexpected character")),
        }
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn take(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn line(&self) -> usize {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens
            .get(self.at.min(last))
            .map_or(1, |(line, _)| *line)
    }

    fn wrong(&self, what: &str) -> HclError {
        HclError {
            line: self.line(),
            what: what.to_owned(),
        }
    }

    /// Parses items up to the end or a closing brace, which stays.
    fn items(&mut self, depth: usize) -> Result<Vec<Item>, HclError> {
        if DEPTH_MAX < depth {
            return Err(self.wrong("nested too deeply"));
        }
        let mut items: Vec<Item> = Vec::new();
        while let Some(Token::Word(_) | Token::Text(_)) = self.peek() {
            let line = self.line();
            let Some(Token::Word(key) | Token::Text(key)) = self.next() else {
                return Err(self.wrong("expected a name"));
            };
            let mut labels = Vec::new();
            let value = if self.take('=') || self.take(':') {
                self.value(depth)?
            } else {
                while let Some(Token::Text(_)) = self.peek() {
                    if let Some(Token::Text(label)) = self.next() {
                        labels.push(label);
                    }
                }
                if self.peek() != Some(&Token::Sign('{')) {
                    return Err(self.wrong("expected `=` or `{`"));
                }
                self.value(depth)?
            };
            if labels.is_empty() && items.iter().any(|item| item.key == key) {
                return Err(HclError {
                    line,
                    what: format!("`{key}` is set twice"),
                });
            }
            items.push(Item {
                line,
                key,
                labels,
                value,
            });
            self.take(',');
        }
        Ok(items)
    }

    fn value(&mut self, depth: usize) -> Result<Value, HclError> {
        match self.next() {
            Some(Token::Text(text)) => Ok(Value::String(text)),
            Some(Token::Number(number)) => Ok(Value::Number(number)),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(self.wrong("expected a value")),
            },
            Some(Token::Sign('[')) => {
                if DEPTH_MAX < depth {
                    return Err(self.wrong("nested too deeply"));
                }
                let mut values = Vec::new();
                while !self.take(']') {
                    values.push(self.value(depth + 1)?);
                    if !self.take(',') && self.peek() != Some(&Token::Sign(']')) {
                        return Err(self.wrong("expected `,` or `]`"));
                    }
                }
                Ok(Value::Array(values))
            }
            Some(Token::Sign('{')) => {
                let mut object = Map::new();
                for item in self.items(depth + 1)? {
                    if !item.labels.is_empty() {
                        return Err(HclError {
                            line: item.line,
                            what: "unexpected block".to_owned(),
                        });
                    }
                    object.insert(item.key, item.value);
                }
                if !self.take('}') {
                    return Err(self.wrong("expected `}`"));
                }
                Ok(Value::Object(object))
            }
            _ => Err(self.wrong("expected a value")),
        }
    }
}

#[cfg(test)]
mod tests;

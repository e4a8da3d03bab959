//! Words, signs and texts of a ruleset.

use super::NftError;

/// A token and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub line: usize,
    /// Place of the first byte in the text.
    pub start: usize,
    /// Place after the last byte.
    pub end: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, number, address, prefix, range or rate.
    Word(String),
    /// Text in quotes.
    Text(String),
    /// `{ } ( ) , ; : = & | == !=`
    Sign(&'static str),
    /// End of a line.
    Newline,
}

const SIGNS: [&str; 12] = ["==", "!=", "{", "}", "(", ")", ",", ";", ":", "=", "&", "|"];

/// Splits a text into tokens; comments are gone.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, NftError> {
    let mut tokens = Vec::new();
    let mut offset = 0;
    for (index, line) in text.split('\n').enumerate() {
        let number = index + 1;
        let mut place = 0;
        while let Some(first) = line[place..].chars().next() {
            let rest = &line[place..];
            if first == '#' {
                break;
            }
            if first.is_whitespace() {
                place += first.len_utf8();
                continue;
            }
            let (kind, length) = if first == '"' {
                let inner = rest[1..].split('"').next().unwrap_or_default();
                if rest.len() < inner.len() + 2 {
                    return Err(NftError {
                        line: number,
                        problem: "text without an end".to_owned(),
                    });
                }
                (Kind::Text(inner.to_owned()), inner.len() + 2)
            } else if is_word(first) || starts_address(rest) {
                let word = word(rest);
                (Kind::Word(word.to_owned()), word.len())
            } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                (Kind::Sign(sign), sign.len())
            } else {
                let problem = format!("`{first}` is not understood");
                return Err(NftError {
                    line: number,
                    problem,
                });
            };
            let start = offset + place;
            tokens.push(Token {
                kind,
                line: number,
                start,
                end: start + length,
            });
            place += length;
        }
        let end = offset + line.len();
        tokens.push(Token {
            kind: Kind::Newline,
            line: number,
            start: end,
            end,
        });
        offset = end + 1;
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_' | '@' | '*')
}

/// `::1` begins like a sign.
fn starts_address(rest: &str) -> bool {
    rest.starts_with("::")
}

/// The word in front; a single colon at its end is a sign (`established: accept`).
fn word(rest: &str) -> &str {
    let end = rest
        .find(|c: char| !is_word(c) && c != ':')
        .unwrap_or(rest.len());
    let word = &rest[..end];
    match word.strip_suffix(':') {
        Some(shorter) if !shorter.ends_with(':') => shorter,
        Some(_) | None => word,
    }
}

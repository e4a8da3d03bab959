//! What one line consists of.

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Open,
    Close,
    /// The end of the line.
    End,
}

/// The line up to its comment. `#` and `!` inside quotes begin none.
pub(super) fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '#' | '!') => return &line[..at],
            (None, _) => {}
        }
    }
    // A quote that does not end is reported with its comment cut off where it would begin without it.
    line
}

/// Parts `$NAME=VALUE` into name and value.
pub(super) fn definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('$')?.split_once('=')?;
    is_name(name).then_some((name, value))
}

fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(inner)
}

/// Variant and file name of a line that includes files.
pub(super) fn include(line: &str) -> Option<(&str, &str)> {
    let (word, name) = line.split_once(char::is_whitespace)?;
    let variant = word.strip_prefix("include")?;
    let name = name.trim().trim_matches('"');
    matches!(variant, "" | "r" | "m" | "w" | "b" | "a").then_some((variant, name))
}

/// The line with its first known parameter replaced, or `None` if it has none. Values of several lines make several.
pub(super) fn replaced(
    line: &str,
    known: &dyn Fn(&str) -> Option<Vec<String>>,
) -> Option<Vec<String>> {
    for (at, _) in line.match_indices('$') {
        let rest = &line[at + 1..];
        let (name, after) = match rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            Some((name, after)) => (name, after),
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        let Some(mut lines) = is_name(name).then(|| known(name)).flatten() else {
            continue;
        };
        if let Some(first) = lines.first_mut() {
            first.insert_str(0, &line[..at]);
        }
        if let Some(last) = lines.last_mut() {
            last.push_str(after);
        }
        return Some(lines);
    }
    None
}

/// The words and braces of a line; the quote that does not end if there is one.
pub(super) fn tokens(line: &str) -> Result<Vec<Token>, char> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err(c),
                        Some(end) if end == c => break,
                        Some('\\') => word.push(escaped(&mut chars)),
                        Some(inner) => word.push(inner),
                    }
                }
            }
            // A parameter that nobody defined stays as it is.
            '$' if chars.peek() == Some(&'{') => {
                let word = word.get_or_insert_default();
                word.push(c);
                for inner in chars.by_ref() {
                    word.push(inner);
                    if inner == '}' {
                        break;
                    }
                }
            }
            '{' | '}' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(if c == '{' { Token::Open } else { Token::Close });
            }
            c if c.is_whitespace() => tokens.extend(word.take().map(Token::Word)),
            c => word.get_or_insert_default().push(c),
        }
    }
    tokens.extend(word.map(Token::Word));
    Ok(tokens)
}

/// What a backslash and the characters behind it mean.
fn escaped(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> char {
    let code = |digits: &str, radix| {
        u32::from_str_radix(digits, radix)
            .ok()
            .and_then(char::from_u32)
            .unwrap_or('\u{fffd}')
    };
    match chars.next() {
        Some('a') => '\u{7}',
        Some('b') => '\u{8}',
        Some('E') => '\u{1b}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('v') => '\u{b}',
        Some('x') => {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_hexdigit) {
                digits.push(digit);
            }
            code(&digits, 16)
        }
        Some('c') => chars
            .next()
            .map_or('c', |c| char::from((c.to_ascii_uppercase() as u8) & 0x1f)),
        Some(first @ '0'..='7') => {
            let mut digits = String::from(first);
            while digits.len() < 3
                && let Some(digit) = chars.next_if(|c| ('0'..='7').contains(c))
            {
                digits.push(digit);
            }
            code(&digits, 8)
        }
        Some(other) => other,
        None => '\\',
    }
}

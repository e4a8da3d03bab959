//! keepalived's configuration language (keepalived.conf(5), "CONFIGURATION PARSER" and "ADVANCED CONFIGURATION"): lines of words,
//! blocks in braces, comments, definitions, conditions and included files. Every statement keeps its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
};

use miette::Diagnostic;
use serde::Serialize;

mod words;

use words::{Token, tokens};

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file as it was named.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One line of words, and the block that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// At least one.
    pub words: Vec<String>,
    /// What stands in the braces behind it.
    pub block: Option<Vec<Statement>>,
    /// Where it begins.
    pub place: Place,
}

impl Statement {
    /// Its first word.
    #[must_use]
    pub fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The words behind the first one.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// The lines of its block; none if it has no block.
    #[must_use]
    pub fn lines(&self) -> &[Statement] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// Where included files are read.
pub trait Files {
    /// The files that `pattern` means, which may have wildcards, as seen from `folder`; in the order of their names.
    ///
    /// # Errors
    /// If one of them cannot be read.
    fn read(&self, folder: &Path, pattern: &str) -> io::Result<Vec<(PathBuf, String)>>;
}

/// For files that stand alone: whatever they include is missing.
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path, _: &str) -> io::Result<Vec<(PathBuf, String)>> {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }
}

/// Why a file cannot be read as keepalived would.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{place}: {message}")]
pub struct ConfError {
    /// Where.
    pub place: Place,
    message: String,
    #[help]
    help: &'static str,
}

/// Reads a configuration. `id` is what lines that begin with `@` are compared with (keepalived's `--config-id`).
///
/// # Errors
/// If braces or quotes do not match, an included file is missing, or conditions need an `id` that is not given.
pub fn read(
    name: &Path,
    text: &str,
    id: Option<&str>,
    files: &dyn Files,
) -> Result<Vec<Statement>, ConfError> {
    let mut reader = Reader {
        files,
        id,
        ids: BTreeSet::new(),
        definitions: BTreeMap::new(),
        tokens: Vec::new(),
        depth: 0,
    };
    reader.file(name, text)?;
    if let (None, Some((first, place))) = (id, reader.ids.iter().next()) {
        let ids: BTreeSet<&str> = reader.ids.iter().map(|(id, _)| id.as_str()).collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        let message = format!("`@{first}` holds for one of {} only", ids.join(", "));
        return Err(ConfError {
            place: place.clone(),
            message,
            help: "say which one this is: --config-id NAME (keepalived's own default is the host's name)",
        });
    }
    let mut tokens = reader.tokens.into_iter().peekable();
    let mut open = Vec::new();
    let statements = block(&mut tokens, &mut open)?;
    if let Some((_, place)) = tokens.next() {
        return Err(ConfError {
            place,
            message: "a `}` too many".to_owned(),
            help: "remove it, or find the `{` that is missing above",
        });
    }
    if let Some(place) = open.pop() {
        return Err(ConfError {
            place,
            message: "the block that begins here has no end".to_owned(),
            help: "add its `}`",
        });
    }
    Ok(statements)
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<(Token, Place)>>;

/// Statements up to the `}` that ends this block, which is left.
fn block(tokens: &mut Tokens, open: &mut Vec<Place>) -> Result<Vec<Statement>, ConfError> {
    let mut statements: Vec<Statement> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut begin = None;
    while let Some((token, place)) = tokens.next_if(|(token, _)| *token != Token::Close) {
        match token {
            Token::Word(word) => {
                begin.get_or_insert(place);
                words.push(word);
            }
            // The `{` may stand on the next line.
            Token::End => statements.extend(statement(&mut words, begin.take())),
            Token::Open => {
                statements.extend(statement(&mut words, begin.take()));
                open.push(place.clone());
                let inner = block(tokens, open)?;
                if tokens.next().is_some() {
                    open.pop();
                }
                match statements.last_mut() {
                    Some(owner) if owner.block.is_none() => owner.block = Some(inner),
                    Some(_) | None => {
                        return Err(ConfError {
                            place,
                            message: "a block without a name".to_owned(),
                            help: "write what it is in front of `{`",
                        });
                    }
                }
            }
            Token::Close => {}
        }
    }
    statements.extend(statement(&mut words, begin));
    Ok(statements)
}

fn statement(words: &mut Vec<String>, place: Option<Place>) -> Option<Statement> {
    let words = std::mem::take(words);
    place.map(|place| Statement {
        words,
        block: None,
        place,
    })
}

/// Definitions within definitions, included files within others.
const DEEPEST: u8 = 32;
/// Tokens that a few lines of definitions may become.
const MOST: usize = 1_000_000;

struct Reader<'a> {
    files: &'a dyn Files,
    id: Option<&'a str>,
    /// Names that conditions ask for, and where.
    ids: BTreeSet<(String, Place)>,
    definitions: BTreeMap<String, Vec<String>>,
    tokens: Vec<(Token, Place)>,
    depth: u8,
}

impl Reader<'_> {
    fn file(&mut self, name: &Path, text: &str) -> Result<(), ConfError> {
        let file = name.display().to_string();
        let folder = name.parent().unwrap_or(Path::new("")).to_owned();
        let pwd = if folder.as_os_str().is_empty() {
            "."
        } else {
            &folder.display().to_string()
        };
        self.define("_PWD", pwd);
        self.define("_INSTANCE", self.id.unwrap_or_default());
        self.define("_HASH", "#");
        self.define("_BANG", "!");
        let mut lines = (1..).zip(text.lines());
        while let Some((number, raw)) = lines.next() {
            let place = Place {
                file: file.clone(),
                line: number,
            };
            let mut whole = vec![words::without_comment(raw).trim().to_owned()];
            // Only definitions go on behind a backslash.
            while let Some(line) = (whole.last()).and_then(|line| line.strip_suffix('\\')) {
                let line = line.trim_end().to_owned();
                whole.pop();
                whole.push(line);
                match lines.next() {
                    Some((_, raw)) => whole.push(words::without_comment(raw).trim().to_owned()),
                    None => break,
                }
            }
            self.line(&folder, &place, whole)?;
        }
        Ok(())
    }

    fn define(&mut self, name: &str, value: &str) {
        self.definitions
            .insert(name.to_owned(), vec![value.to_owned()]);
    }

    /// One line, of which a definition may have several.
    fn line(
        &mut self,
        folder: &Path,
        place: &Place,
        mut lines: Vec<String>,
    ) -> Result<(), ConfError> {
        let refuse = |message: String, help| {
            Err(ConfError {
                place: place.clone(),
                message,
                help,
            })
        };
        let mut line = lines.remove(0);
        while let Some(rest) = line.strip_prefix('@') {
            let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let name = word.strip_prefix('^').unwrap_or(word);
            self.ids.insert((name.to_owned(), place.clone()));
            if (self.id == Some(name)) == word.starts_with('^') {
                return Ok(());
            }
            line = rest.trim_start().to_owned();
        }
        if let Some((name, value)) = words::definition(&line) {
            let (name, value) = (name.to_owned(), value.trim().to_owned());
            lines.insert(0, value);
            // `$NAME= \` begins with the next line.
            if lines.len() > 1 && lines[0].is_empty() {
                lines.remove(0);
            }
            self.definitions.insert(name, lines);
            return Ok(());
        }
        if line.starts_with("~SEQ") || line.starts_with("~LST") {
            return refuse(
                "lines that are repeated by ~SEQ and ~LST are not read".to_owned(),
                "write out what they become (`keepalived -t -l` in debug builds shows it), or define it by $NAME=…",
            );
        }
        if self.depth >= DEEPEST || self.tokens.len() > MOST {
            return refuse(
                "definitions or included files go round in a circle".to_owned(),
                "look for a definition that uses itself, or a file that includes itself",
            );
        }
        if let Some((variant, pattern)) = words::include(&line) {
            self.depth += 1;
            let found = self.files.read(folder, pattern);
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    return refuse(
                        format!("cannot read the included `{pattern}`: {error}"),
                        "put the file beside this one, or remove the line",
                    );
                }
            };
            // As a wildcard without a match, `include` and `includer` may mean no file at all.
            let wild = pattern.contains(['*', '?', '[', '{']);
            if found.is_empty() && (!wild || !matches!(variant, "" | "r")) {
                return refuse(
                    format!("no file is meant by the included `{pattern}`"),
                    "put the file beside this one, or remove the line",
                );
            }
            let pwd = self.definitions.get("_PWD").cloned();
            for (path, text) in found {
                self.file(&path, &text)?;
            }
            self.definitions
                .extend(pwd.map(|pwd| ("_PWD".to_owned(), pwd)));
            self.depth -= 1;
            return Ok(());
        }
        let known = |name: &str| self.definitions.get(name).cloned();
        if let Some(replaced) = words::replaced(&line, &known) {
            self.depth += 1;
            for line in replaced {
                self.line(folder, place, vec![line])?;
            }
            self.depth -= 1;
            // Lines that follow a broken one belong to it.
            return lines
                .into_iter()
                .try_for_each(|line| self.line(folder, place, vec![line]));
        }
        match tokens(&line) {
            Ok(tokens) => {
                let here = tokens.into_iter().map(|token| (token, place.clone()));
                self.tokens.extend(here);
                self.tokens.push((Token::End, place.clone()));
            }
            Err(quote) => {
                return refuse(
                    format!("a text in {quote} does not end"),
                    "close it on the same line",
                );
            }
        }
        lines
            .into_iter()
            .try_for_each(|line| self.line(folder, place, vec![line]))
    }
}

#[cfg(test)]
mod tests;

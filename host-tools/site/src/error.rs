//! What is wrong with a site file, where, and how to mend it.

use std::{fmt, ops::Range};

use miette::{Diagnostic, LabeledSpan, NamedSource};

/// All problems of one site file.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{}", self.headline())]
pub struct SiteErrors {
    #[source_code]
    text: NamedSource<String>,
    #[related]
    problems: Vec<Problem>,
}

impl SiteErrors {
    pub(crate) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(Problem::place);
        Self {
            text: NamedSource::new(name, text.to_owned()).with_language("TOML"),
            problems,
        }
    }

    /// The problems in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn headline(&self) -> String {
        match self.problems.len() {
            1 => format!("{} has a problem", self.text.name()),
            count => format!("{} has {count} problems", self.text.name()),
        }
    }
}

/// One problem of a site file.
#[derive(Debug)]
pub struct Problem {
    code: &'static str,
    message: String,
    labels: Vec<LabeledSpan>,
    help: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            labels: Vec::new(),
            help: None,
        }
    }

    /// Points at a place in the file.
    pub(crate) fn at(mut self, place: Range<usize>, label: impl Into<String>) -> Self {
        self.labels
            .push(LabeledSpan::new_with_span(Some(label.into()), place));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds "did you mean …" if one of the `known` names is close to `word`, else lists them.
    pub(crate) fn suggest<'a>(self, word: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.collect();
        match nearest(word, &known) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None if known.is_empty() => self,
            None => {
                let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                self.help(format!("use one of {}", list.join(", ")))
            }
        }
    }

    /// Stable name of the kind of problem, such as `site::duplicate_address`.
    pub fn code(&self) -> &'static str {
        self.code
    }

    fn place(&self) -> usize {
        self.labels.last().map_or(0, LabeledSpan::offset)
    }
}

/// The name that `word` was probably meant to be.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

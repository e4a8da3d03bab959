//! What a proof finds, in the words of the tool's other messages.

use std::fmt;

use miette::{Diagnostic, Severity};
use serde::Serialize;

use crate::packet::Packet;
use crate::trace::Step;

/// A difference between what is intended and what is let through, or a rule that does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name of the kind.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// A packet that shows it.
    #[serde(serialize_with = "as_text")]
    pub example: Option<Packet>,
    /// What happens to that packet.
    pub steps: Vec<Step>,
    /// How to mend it.
    pub help: String,
}

/// Kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Code {
    /// Something gets from one machine to another that no flow asks for.
    #[serde(rename = "prove::open")]
    Open,
    /// Something that a flow asks for does not get through.
    #[serde(rename = "prove::closed")]
    Closed,
    /// One machine alone would let through more than the flows ask for; another one stops it.
    #[serde(rename = "prove::too_wide")]
    TooWide,
    /// A rule's packets are all decided by earlier rules.
    #[serde(rename = "prove::shadowed")]
    Shadowed,
    /// No packet can match a rule.
    #[serde(rename = "prove::dead")]
    Dead,
    /// Without the rule the same would happen.
    #[serde(rename = "prove::redundant")]
    Redundant,
}

impl Code {
    /// As messages show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "prove::open",
            Self::Closed => "prove::closed",
            Self::TooWide => "prove::too_wide",
            Self::Shadowed => "prove::shadowed",
            Self::Dead => "prove::dead",
            Self::Redundant => "prove::redundant",
        }
    }

    /// Whether the policy is not what was asked for; otherwise it is merely untidy.
    #[must_use]
    pub const fn is_error(self) -> bool {
        match self {
            Self::Open | Self::Closed | Self::TooWide => true,
            Self::Shadowed | Self::Dead | Self::Redundant => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(example) = &self.example {
            write!(f, "\n{example}")?;
        }
        for step in &self.steps {
            write!(f, "\n  {}: {}", step.place, step.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for Finding {}

impl Diagnostic for Finding {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code.name()))
    }

    fn severity(&self) -> Option<Severity> {
        Some(if self.code.is_error() {
            Severity::Error
        } else {
            Severity::Warning
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.help))
    }
}

fn as_text<S: serde::Serializer>(
    packet: &Option<Packet>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match packet {
        Some(packet) => serializer.collect_str(packet),
        None => serializer.serialize_none(),
    }
}

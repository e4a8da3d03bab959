//! `[nginx]`: what the web servers answer themselves, and what they let through.

use serde::Serialize;
use toml::de::DeValue;

use crate::{
    error::Problem,
    file::SiteFile,
    read::{At, Table, Value, Wrong, text},
};

/// How the web servers work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nginx {
    /// Directory of files that they serve themselves, seen from the site file.
    pub static_files: Option<String>,
    /// Largest body of a request, in bytes.
    pub body: u64,
}

/// `[nginx]` as written; what is absent has a default.
#[derive(Default)]
pub(crate) struct Entry {
    static_files: Option<At<Beside>>,
    body: Option<At<Size>>,
}

impl Entry {
    pub(crate) const KEYS: [&str; 2] = ["static", "body"];

    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let static_files = table.optional("static", problems);
        let body = table.optional("body", problems);
        Some(Self {
            static_files: static_files?,
            body: body?,
        })
    }
}

/// What follows from the file.
pub(crate) fn settings(file: &SiteFile) -> Nginx {
    let entry = &file.nginx;
    Nginx {
        static_files: (entry.static_files.as_ref()).map(|path| path.get_ref().0.clone()),
        body: (entry.body.as_ref()).map_or(BODY, |size| size.get_ref().0),
    }
}

const BODY: u64 = 1 << 20;

/// The path of something beside the site file.
pub(crate) struct Beside(pub(crate) String);

impl Value for Beside {
    const WANTED: &'static str = "a path beside the site file, such as \"public/\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let path = text(value)?;
        let wrong = |label: &str| Err(Wrong::Content(label.to_owned()));
        if path.is_empty() {
            return wrong("empty");
        }
        if path.contains(['\0', '\n']) {
            return wrong("not a path");
        }
        Ok(Self(path.to_owned()))
    }
}

/// A number of bytes.
struct Size(u64);

impl Value for Size {
    const WANTED: &'static str = "a size from \"1k\" to \"10g\", such as \"8m\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value)?;
        let wrong = |label: &str| Wrong::Content(label.to_owned());
        let units = [("k", 10), ("m", 20), ("g", 30)];
        let (digits, bits) = (units.iter())
            .find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, *bits)))
            .ok_or_else(|| wrong("no unit: k, m or g"))?;
        let number: u64 = (digits.parse()).map_err(|_| wrong("not a whole number of k, m or g"))?;
        match number.checked_mul(1 << bits) {
            Some(bytes) if (1 << 10..=10 << 30).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(wrong("not between 1k and 10g")),
        }
    }
}

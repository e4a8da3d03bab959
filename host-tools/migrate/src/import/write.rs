//! Writing TOML with comments that say where a value comes from.

use toml_edit::{Item, Table, Value};

use crate::conf::Place;

/// A value that somebody has to fill in.
pub(super) fn open(hint: &str) -> String {
    format!("TODO: {hint}")
}

/// A key that somebody has to fill in.
pub(super) fn to_do(table: &mut Table, key: &str, hint: &str) {
    put(table, key, open(hint), None);
}

/// A key, its value, and the line that it comes from.
pub(super) fn put(table: &mut Table, key: &str, value: impl Into<Value>, from: Option<&Place>) {
    put_item(table, key, value, from);
}

/// The same, for values that are tables.
pub(super) fn put_item(
    table: &mut Table,
    key: &str,
    value: impl Into<Value>,
    from: Option<&Place>,
) {
    let mut value = value.into();
    if let Some(place) = from {
        value.decor_mut().set_suffix(format!("  # {place}"));
    }
    table.insert(key, Item::Value(value));
}

/// Milliseconds as site files say them.
pub(super) fn time(ms: u32) -> String {
    match ms % 1000 {
        0 => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// A name of ours that is as near as possible to one of theirs.
pub(super) fn label(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_matches('-');
    let name = match name.starts_with(|c: char| c.is_ascii_lowercase()) {
        true => name.to_owned(),
        false => format!("n{name}"),
    };
    let end = name.len().min(31);
    name[..end].trim_end_matches('-').to_owned()
}

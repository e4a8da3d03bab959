//! Typed access to TOML tables that remembers where everything stands in the file.

use std::{net::Ipv4Addr, ops::Range};

use ipnet::Ipv4Net;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    error::{Problem, nearest},
    plan::{Port, Role},
    value::milliseconds,
};

/// Longest name in characters: what `policy::Name` holds.
const MAX_NAME: usize = 31;

/// A value and its place in the file.
pub(crate) type At<T> = Spanned<T>;

/// A table whose keys are known.
pub(crate) struct Table<'a> {
    /// How messages call it: `[networks.wan]`.
    pub(crate) title: String,
    /// Place of its name.
    pub(crate) place: Range<usize>,
    entries: &'a DeTable<'a>,
    /// Keys that unknown ones were probably meant to be: their absence is no news.
    misspelt: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// Reports every key that is not one of `keys`.
    pub(crate) fn new(
        title: impl Into<String>,
        place: Range<usize>,
        entries: &'a DeTable<'a>,
        keys: &[&'static str],
        problems: &mut Vec<Problem>,
    ) -> Self {
        let title = title.into();
        let mut misspelt = Vec::new();
        for key in entries
            .keys()
            .filter(|key| !keys.contains(&key.get_ref().as_ref()))
        {
            misspelt.extend(nearest(key.get_ref(), keys));
            problems.push(
                Problem::new(
                    "site::unknown_key",
                    format!("unknown key `{}` in {title}", key.get_ref()),
                )
                .at(key.span(), "nothing of this name is known here")
                .suggest(key.get_ref(), keys.iter().copied()),
            );
        }
        Self {
            title,
            place,
            entries,
            misspelt,
        }
    }

    /// The value of `key`, which must be there.
    pub(crate) fn required<T: Value>(
        &self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<At<T>> {
        if !self.entries.contains_key(key) && !self.misspelt.contains(&key) {
            problems.push(self.missing(key, T::WANTED));
        }
        self.optional(key, problems)?
    }

    /// The value of `key`: `None` if it is there but wrong, `Some(None)` if it is absent.
    pub(crate) fn optional<T: Value>(
        &self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Option<At<T>>> {
        let Some(value) = self.entries.get(key) else {
            return Some(None);
        };
        match T::read(value.get_ref()) {
            Ok(read) => Some(Some(At::new(value.span(), read))),
            Err(wrong) => {
                problems.push(wrong.problem(key, value, T::WANTED));
                None
            }
        }
    }

    /// The value of `key`, or the values of its list: empty if it is absent, `None` if something is wrong.
    pub(crate) fn list<T: Value>(
        &self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<At<T>>> {
        let Some(value) = self.entries.get(key) else {
            return Some(Vec::new());
        };
        let Some(items) = value.get_ref().as_array() else {
            let one = self.optional(key, problems)?;
            return Some(one.into_iter().collect());
        };
        if items.is_empty() {
            let wrong = Wrong::Content("an empty list".to_owned());
            problems.push(wrong.problem(key, value, T::WANTED));
            return None;
        }
        let mut read = Vec::new();
        for item in items {
            match T::read(item.get_ref()) {
                Ok(one) => read.push(At::new(item.span(), one)),
                Err(wrong) => problems.push(wrong.problem(key, item, T::WANTED)),
            }
        }
        (read.len() == items.len()).then_some(read)
    }

    /// The value of `key`, or the values of its list, which must be there.
    pub(crate) fn required_list<T: Value>(
        &self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<At<T>>> {
        if !self.has(key) && !self.misspelt.contains(&key) {
            problems.push(self.missing(key, T::WANTED));
        }
        self.list(key, problems).filter(|list| !list.is_empty())
    }

    /// The named sub-tables of this one in the order of the file.
    pub(crate) fn tables(
        &self,
        problems: &mut Vec<Problem>,
    ) -> Vec<(At<String>, Option<&'a DeTable<'a>>)> {
        let mut found = Vec::new();
        for (key, value) in self.entries {
            let table = value.get_ref().as_table();
            if table.is_none() {
                problems.push(wrong_type(
                    key.get_ref(),
                    value,
                    "a table such as { key = \"value\" }",
                ));
            }
            found.push((At::new(key.span(), key.get_ref().to_string()), table));
        }
        found.sort_by_key(|(name, _)| name.span().start);
        found
    }

    /// The values of this table, whose keys are names that the operator chose, in the order of the file.
    pub(crate) fn values<T: Value>(
        &self,
        problems: &mut Vec<Problem>,
    ) -> Vec<(At<String>, Option<At<T>>)> {
        let mut found = Vec::new();
        for (key, value) in self.entries {
            let read = match T::read(value.get_ref()) {
                Ok(read) => Some(At::new(value.span(), read)),
                Err(wrong) => {
                    problems.push(wrong.problem(key.get_ref(), value, T::WANTED));
                    None
                }
            };
            found.push((At::new(key.span(), key.get_ref().to_string()), read));
        }
        found.sort_by_key(|(name, _)| name.span().start);
        found
    }

    /// Whether `key` is there, whatever it holds.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The sub-table `key`, which may be absent and may hold only `keys`.
    pub(crate) fn optional_table(
        &self,
        key: &'static str,
        keys: &[&'static str],
        problems: &mut Vec<Problem>,
    ) -> Option<Table<'a>> {
        self.has(key).then(|| self.table(key, keys, problems))?
    }

    /// The sub-table `key`, which may be absent and whose keys are names that the operator chose.
    pub(crate) fn optional_section(
        &self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Table<'a>> {
        self.has(key).then(|| self.section(key, problems))?
    }

    /// The sub-table `key`, which must be there and may hold only `keys`.
    pub(crate) fn table(
        &self,
        key: &'static str,
        keys: &[&'static str],
        problems: &mut Vec<Problem>,
    ) -> Option<Table<'a>> {
        let Table {
            title,
            place,
            entries,
            ..
        } = self.section(key, problems)?;
        Some(Table::new(title, place, entries, keys, problems))
    }

    /// The sub-table `key`, which must be there and whose keys are names that the operator chose.
    pub(crate) fn section(
        &self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Table<'a>> {
        let Some((name, value)) = self.entries.get_key_value(key) else {
            if !self.misspelt.contains(&key) {
                problems.push(self.missing(
                    key,
                    "compare with the reference site, or start from `ravelin new NAME`",
                ));
            }
            return None;
        };
        let Some(entries) = value.get_ref().as_table() else {
            problems.push(wrong_type(key, value, "a table"));
            return None;
        };
        // [services.web] has [services.web.check]; what stands in the root stands for itself.
        let title = match self
            .title
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
        {
            Some(outer) => format!("[{outer}.{key}]"),
            None => format!("[{key}]"),
        };
        Some(Table {
            title,
            place: name.span(),
            entries,
            misspelt: Vec::new(),
        })
    }

    /// The list of names at `key`: `None` if there is no list, `Some(None)` if it has something else in it.
    pub(crate) fn names(
        &self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Option<Vec<At<String>>>> {
        let list = self.entries.get(key)?.get_ref().as_array()?;
        let mut names = Vec::new();
        for item in list {
            match String::read(item.get_ref()) {
                Ok(name) => names.push(At::new(item.span(), name)),
                Err(wrong) => {
                    problems.push(wrong.problem(key, item, String::WANTED));
                    return Some(None);
                }
            }
        }
        Some(Some(names))
    }

    /// The tables of `[[key]]`, which may be absent.
    pub(crate) fn array(
        &self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Vec<(Range<usize>, &'a DeTable<'a>)> {
        let Some(value) = self.entries.get(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            problems.push(wrong_type(
                key,
                value,
                &format!("a list of tables, each headed by [[{key}]]"),
            ));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array {
            match item.get_ref().as_table() {
                Some(table) => tables.push((item.span(), table)),
                None => problems.push(wrong_type(key, item, "a table")),
            }
        }
        tables
    }

    fn missing(&self, key: &str, wanted: &str) -> Problem {
        let problem = Problem::new("site::missing_key", format!("{} lacks `{key}`", self.title));
        let problem = problem.help(format!("add `{key}` to {}: {wanted}", self.title));
        if self.place.is_empty() {
            problem
        } else {
            problem.at(self.place.clone(), format!("needs `{key}`"))
        }
    }
}

/// A type that a TOML value can be read as.
pub(crate) trait Value: Sized {
    /// What is wanted, for messages: `a text such as "10.0.0.1"`.
    const WANTED: &'static str;
    /// Reads it.
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong>;
}

/// Why a value cannot be read.
pub(crate) enum Wrong {
    /// It is of another TOML type.
    Type,
    /// The type is right, the content is not.
    Content(String),
}

impl Wrong {
    fn problem(self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Problem {
        if value.get_ref().as_str().is_some_and(is_to_do) {
            return to_do(key, value.span(), wanted);
        }
        match self {
            Self::Type => wrong_type(key, value, wanted),
            Self::Content(label) => Problem::new(
                "site::wrong_value",
                format!("`{key}` has an impossible value"),
            )
            .at(value.span(), label)
            .help(format!("write {wanted}")),
        }
    }
}

/// Whether a text stands where somebody has to fill something in: `"TODO"`, or `"TODO: the provider's router"`.
pub(crate) fn is_to_do(text: &str) -> bool {
    text.strip_prefix("TODO")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// Reports such a text.
pub(crate) fn to_do(key: &str, place: Range<usize>, wanted: &str) -> Problem {
    Problem::new("site::to_do", format!("`{key}` is still to be filled in"))
        .at(place, "nobody but you knows it")
        .help(format!("write {wanted}"))
}

pub(crate) fn wrong_type(key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Problem {
    Problem::new("site::wrong_type", format!("`{key}` has the wrong type"))
        .at(
            value.span(),
            format!("this is {}", type_name(value.get_ref())),
        )
        .help(format!("write {wanted}"))
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(crate) fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, Wrong> {
    value.as_str().ok_or(Wrong::Type)
}

pub(crate) fn number(
    value: &DeValue<'_>,
    range: std::ops::RangeInclusive<i64>,
) -> Result<i64, Wrong> {
    let digits = value.as_integer().ok_or(Wrong::Type)?;
    match i64::from_str_radix(digits.as_str(), digits.radix()) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(Wrong::Content(format!(
            "not between {} and {}",
            range.start(),
            range.end()
        ))),
    }
}

impl Value for String {
    const WANTED: &'static str = "a text in double quotes";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            open if is_to_do(open) => Err(Wrong::Content("to be filled in".to_owned())),
            text => Ok(text.to_owned()),
        }
    }
}

impl Value for bool {
    const WANTED: &'static str = "true or false";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        value.as_bool().ok_or(Wrong::Type)
    }
}

impl Value for Ipv4Addr {
    const WANTED: &'static str = "an IPv4 address such as \"10.20.1.11\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        text(value)?
            .parse()
            .map_err(|_| Wrong::Content("not an IPv4 address".into()))
    }
}

impl Value for Ipv4Net {
    const WANTED: &'static str = "a subnet with the length of its prefix, such as \"10.20.1.0/24\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        text(value)?
            .parse()
            .map_err(|_| Wrong::Content("not an IPv4 subnet".into()))
    }
}

impl Value for Port {
    const WANTED: &'static str = "\"wan\" (towards the provider) or \"lan\" (towards the rack)";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "wan" => Ok(Self::Wan),
            "lan" => Ok(Self::Lan),
            _ => Err(Wrong::Content("an appliance has no such port".into())),
        }
    }
}

/// A name that is safe as a host name, a file name and the name of a rule.
pub(crate) struct Label(pub(crate) String);

impl Label {
    /// What is wrong with `name`, if anything.
    pub(crate) fn fault(name: &str) -> Option<String> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Some(format!("must have 1 to {MAX_NAME} characters"));
        }
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some(bad) = name.chars().find(|c| !inner(*c)) {
            return Some(format!("`{bad}` is not allowed in a name"));
        }
        let ends = name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-');
        (!ends).then(|| "must start with a letter and not end with a hyphen".to_owned())
    }
}

impl Value for Label {
    const WANTED: &'static str =
        "a name of lower-case letters, digits and hyphens that starts with a letter";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let name = text(value)?;
        match Self::fault(name) {
            Some(fault) => Err(Wrong::Content(fault)),
            None => Ok(Self(name.to_owned())),
        }
    }
}

/// A fully qualified DNS name.
pub(crate) struct Domain(pub(crate) String);

impl Value for Domain {
    const WANTED: &'static str =
        "a full DNS name in lower case and nothing around it, such as \"www.example.com\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let name = text(value)?;
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.chars().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let fault = if name.len() > 253 {
            "longer than 253 characters"
        } else if !name.split('.').all(label) {
            "not a DNS name"
        } else if !name.contains('.') {
            "has no dot: not a full name"
        } else if name.parse::<Ipv4Addr>().is_ok() {
            "an address, not a name"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(Wrong::Content(fault.to_owned()))
    }
}

/// VRRP advertisement interval in centiseconds.
pub(crate) struct Interval(pub(crate) u16);

impl Value for Interval {
    const WANTED: &'static str =
        "a time from \"10ms\" to \"40s\" in steps of 10 ms, such as \"100ms\" or \"1s\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let wrong = |label: &str| Wrong::Content(label.to_owned());
        let ms = milliseconds(text(value)?)?;
        if !(10..=40_000).contains(&ms) {
            return Err(wrong("not between 10 ms and 40 s"));
        }
        if ms % 10 != 0 {
            return Err(wrong("VRRP counts in steps of 10 ms"));
        }
        u16::try_from(ms / 10)
            .map(Self)
            .map_err(|_| wrong("not between 10 ms and 40 s"))
    }
}

macro_rules! whole_numbers {
    ($($(#[$doc:meta])* $name:ident($inner:ty) $first:literal to $last:literal;)*) => { $(
        $(#[$doc])*
        pub(crate) struct $name(pub(crate) $inner);

        impl Value for $name {
            const WANTED: &'static str =
                concat!("a whole number from ", stringify!($first), " to ", stringify!($last));
            fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
                let number = number(value, $first..=$last)?;
                <$inner>::try_from(number).map(Self).map_err(|_| Wrong::Type)
            }
        }
    )* };
}

whole_numbers! {
    /// Virtual router identifier (RFC 9568 §5.2.3).
    Vrid(u8) 1 to 255;
    /// Priority; 0 has a meaning of its own, 255 is the owner's (RFC 9568 §5.2.4).
    Priority(u8) 1 to 255;
    /// 802.1Q VLAN identifier.
    Vlan(u16) 1 to 4094;
    /// Position of an address in its subnet.
    Host(u32) 1 to 16777214;
    /// TCP or UDP port.
    PortNumber(u16) 1 to 65535;
    /// Longest packet of a network; IPv6 needs 1280 (RFC 8200 §5).
    Mtu(u16) 1280 to 1500;
    /// Share of a server.
    Weight(u8) 1 to 255;
    /// How many flows, servers or checks.
    Count(u8) 1 to 255;
    /// Most flows of one server.
    Most(u32) 1 to 16777216;
    /// Percent of a check's interval.
    Jitter(u8) 0 to 50;
    /// Bits of an IPv4 prefix.
    Bits(u8) 1 to 32;
    /// Bits of an IPv6 prefix.
    Bits6(u8) 1 to 128;
    /// How many heartbeats.
    Misses(u8) 2 to 255;
    /// Identifier of a key.
    KeyId(u8) 1 to 255;
    /// How many, of what a device counts in 16 bits.
    Number(u16) 1 to 65535;
}

impl Role {
    /// Every role, users' side first.
    pub const ALL: [Self; 5] = [
        Self::Haproxy,
        Self::Nginx,
        Self::App,
        Self::Db,
        Self::Monitor,
    ];

    /// Its word in the site file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::App => "app",
            Self::Db => "db",
            Self::Monitor => "monitor",
        }
    }
}

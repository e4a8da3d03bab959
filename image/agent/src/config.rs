//! What the environment says.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where rsyslog keeps logs: `HOST/YYYY-MM-DD.log`.
    pub logs: PathBuf,
    /// What survives a restart of this program.
    pub state: PathBuf,
    /// Where figures go, for the node exporter's textfile collector.
    pub textfile: PathBuf,
    /// How long a turn takes.
    pub every: Duration,
    /// Days that logs are kept.
    pub days: u32,
    /// Bytes that logs may take.
    pub room: u64,
    /// Prometheus' federation, whose figures are shipped.
    pub figures: Option<String>,
    /// Names of the appliances.
    pub appliances: Vec<String>,
    /// Where to ship to, if anywhere.
    pub sink: Option<Sink>,
}

/// A central sink: Sumo Logic's HTTP source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// File with its URL, a secret.
    pub url_file: PathBuf,
    /// File with the certificates of who may have signed its certificate, PEM.
    pub authorities: PathBuf,
    /// What all of it belongs to there.
    pub category: String,
    /// Bytes on disk for what it has not taken.
    pub room: u64,
    /// How long lines wait for more of them.
    pub logs_every: Duration,
    /// How often figures are shipped.
    pub figures_every: Duration,
    /// First pause after a failure; it doubles up to a hundred times that.
    pub pause: Duration,
}

/// Why the environment cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A variable is not set, or empty.
    #[error("the environment variable {0} is not set")]
    Missing(&'static str),
    /// A variable should hold a number.
    #[error("{name} is `{value}`, which is not a number")]
    Number {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
}

impl Config {
    /// Reads the settings through `variable`, which looks up an environment variable.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let optional = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let text = |name| optional(name).ok_or(ConfigError::Missing(name));
        let number = |name, default: u64| match optional(name) {
            None => Ok(default),
            Some(value) => value
                .parse()
                .map_err(|_| ConfigError::Number { name, value }),
        };
        let ms = |name, default| number(name, default).map(Duration::from_millis);
        let sink = match optional("AGENT_URL_FILE") {
            None => None,
            Some(url_file) => Some(Sink {
                url_file: url_file.into(),
                authorities: text("AGENT_AUTHORITIES")?.into(),
                category: text("AGENT_CATEGORY")?,
                room: number("AGENT_SPOOL_MIB", 128)? << 20,
                logs_every: ms("AGENT_LOGS_EVERY_MS", 30_000)?,
                figures_every: ms("AGENT_FIGURES_EVERY_MS", 60_000)?,
                pause: ms("AGENT_PAUSE_MS", 1_000)?,
            }),
        };
        Ok(Self {
            logs: text("AGENT_LOGS")?.into(),
            state: text("AGENT_STATE")?.into(),
            textfile: text("AGENT_TEXTFILE")?.into(),
            every: ms("AGENT_EVERY_MS", 2_000)?,
            days: u32::try_from(number("AGENT_DAYS", 14)?).unwrap_or(u32::MAX),
            room: number("AGENT_ROOM_MIB", 384)? << 20,
            figures: optional("AGENT_FIGURES"),
            appliances: (optional("AGENT_APPLIANCES").iter())
                .flat_map(|names| names.split_whitespace())
                .map(str::to_owned)
                .collect(),
            sink,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 3] = [
        ("AGENT_LOGS", "/var/log/rack"),
        ("AGENT_STATE", "/var/lib/ravelin-agent"),
        ("AGENT_TEXTFILE", "/x/agent.prom"),
    ];

    fn read(more: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let all = [&GOOD, more].concat();
        Config::read(|name| {
            let found = all.iter().rev().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_sink_is_there_only_if_it_has_a_url() {
        assert_eq!(read(&[]).map(|config| config.sink), Ok(None));
        let url = ("AGENT_URL_FILE", "/run/x");
        assert_eq!(read(&[url]), Err(ConfigError::Missing("AGENT_AUTHORITIES")));
        let all = [
            url,
            ("AGENT_AUTHORITIES", "/etc/x"),
            ("AGENT_CATEGORY", "foobar"),
        ];
        let sink = read(&all).map(|config| config.sink).ok().flatten();
        assert_eq!(sink.map(|sink| sink.room), Some(128 << 20));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            read(&[("AGENT_LOGS", "")]),
            Err(ConfigError::Missing("AGENT_LOGS"))
        );
        let error = read(&[("AGENT_DAYS", "two")]).map_err(|error| error.to_string());
        assert_eq!(
            error,
            Err("AGENT_DAYS is `two`, which is not a number".to_owned())
        );
    }
}

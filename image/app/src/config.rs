//! What the environment says.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Settings of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of this server, shown on the page.
    pub name: String,
    /// Name of the site, shown on the page.
    pub site: String,
    /// Where we listen.
    pub listen: SocketAddr,
    /// The database.
    pub database: Database,
}

/// How the database is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Address and port; never a name, so that no resolver is needed.
    pub address: SocketAddr,
    /// Name of the database.
    pub name: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
    /// How it is encrypted; in the open without.
    pub tls: Option<Tls>,
}

/// TLS to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Name that its certificate must have: the address may be that of a proxy.
    pub host: String,
    /// Certificates of whom we trust.
    pub ca: PathBuf,
    /// Our own certificate and key.
    pub identity: PathBuf,
}

/// Why the environment cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A variable is not set, or empty.
    #[error("the environment variable {0} is not set")]
    Missing(&'static str),
    /// A variable should hold an address and a port.
    #[error("{name} is `{value}`, which is no address and port such as 10.0.0.1:9000")]
    Address {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
}

impl Config {
    /// Reads the settings through `variable`, which looks up an environment variable.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = |name| {
            variable(name)
                .filter(|value| !value.is_empty())
                .ok_or(ConfigError::Missing(name))
        };
        let address = |name| {
            let value = text(name)?;
            value
                .parse()
                .map_err(|_| ConfigError::Address { name, value })
        };
        Ok(Self {
            name: text("APP_NAME")?,
            site: text("APP_SITE")?,
            listen: address("APP_LISTEN")?,
            database: Database {
                address: address("APP_DATABASE")?,
                name: text("APP_DATABASE_NAME")?,
                user: text("APP_DATABASE_USER")?,
                password: text("APP_DATABASE_PASSWORD")?,
                tls: match variable("APP_DATABASE_CA") {
                    None => None,
                    Some(ca) => Some(Tls {
                        host: text("APP_DATABASE_HOST")?,
                        ca: ca.into(),
                        identity: text("APP_DATABASE_IDENTITY")?.into(),
                    }),
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 7] = [
        ("APP_NAME", "app1"),
        ("APP_SITE", "www.foobar.com"),
        ("APP_LISTEN", "10.20.3.11:9000"),
        ("APP_DATABASE", "10.20.4.11:3306"),
        ("APP_DATABASE_NAME", "app"),
        ("APP_DATABASE_USER", "app"),
        ("APP_DATABASE_PASSWORD", "secret"),
    ];

    fn read(change: (&str, &str)) -> Result<Config, ConfigError> {
        Config::read(|name| {
            let (_, value) = GOOD.iter().find(|(known, _)| *known == name)?;
            Some(if name == change.0 { change.1 } else { value }.to_owned())
        })
    }

    #[test]
    fn a_full_environment_is_read() {
        let config = read(("", "")).unwrap();
        assert_eq!(config.listen, "10.20.3.11:9000".parse().unwrap());
        assert_eq!(config.database.address, "10.20.4.11:3306".parse().unwrap());
        assert_eq!(config.database.password, "secret");
    }

    #[test]
    fn each_missing_variable_is_named() {
        for (name, _) in GOOD {
            assert_eq!(read((name, "")), Err(ConfigError::Missing(name)));
        }
    }

    #[test]
    fn addresses_are_numbers() {
        for value in ["db1:3306", "10.20.4.11", "10.20.4.11:99999"] {
            let error = ConfigError::Address {
                name: "APP_DATABASE",
                value: value.into(),
            };
            assert_eq!(read(("APP_DATABASE", value)), Err(error));
        }
    }
}

//! A port as the operator writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What a physical port of the appliance is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSpec {
    /// An interface of the kernel: `eth0`.
    Interface(String),
    /// A TAP device, made if it does not exist: `tap:NAME`.
    Tap(String),
    /// A virtual cable of unix datagram sockets: `unix:LOCAL,REMOTE`.
    Cable {
        /// Where this end receives.
        local: PathBuf,
        /// Where the other end receives.
        remote: PathBuf,
    },
}

/// Why a text is not a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortSpecError {
    /// Nothing there.
    #[error("empty port; write an interface such as `eth0`, `tap:NAME`, or `unix:LOCAL,REMOTE`")]
    Empty,
    /// Interface names are limited by the kernel.
    #[error("`{0}` is no interface name: 1 to 15 characters, no spaces or slashes")]
    BadName(String),
    /// A cable has two ends.
    #[error("`unix:{0}` needs two different paths: `unix:LOCAL,REMOTE`")]
    BadCable(String),
    /// The kernel's limit for socket paths.
    #[error(
        "socket path of {len} bytes is too long (107 at most): `{path}`; use a shorter directory"
    )]
    PathTooLong {
        /// The path.
        path: String,
        /// Its length.
        len: usize,
    },
}

impl FromStr for PortSpec {
    type Err = PortSpecError;

    fn from_str(text: &str) -> Result<Self, PortSpecError> {
        if text.is_empty() {
            return Err(PortSpecError::Empty);
        }
        if let Some(name) = text.strip_prefix("tap:") {
            return Ok(Self::Tap(interface_name(name)?));
        }
        let Some(paths) = text.strip_prefix("unix:") else {
            return Ok(Self::Interface(interface_name(text)?));
        };
        let (local, remote) = paths
            .split_once(',')
            .filter(|(local, remote)| !local.is_empty() && !remote.is_empty() && local != remote)
            .ok_or_else(|| PortSpecError::BadCable(paths.to_owned()))?;
        for path in [local, remote] {
            if path.len() > MAX_PATH {
                return Err(PortSpecError::PathTooLong {
                    path: path.to_owned(),
                    len: path.len(),
                });
            }
        }
        Ok(Self::Cable {
            local: local.into(),
            remote: remote.into(),
        })
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => f.write_str(name),
            Self::Tap(name) => write!(f, "tap:{name}"),
            Self::Cable { local, remote } => {
                write!(f, "unix:{},{}", local.display(), remote.display())
            }
        }
    }
}

fn interface_name(name: &str) -> Result<String, PortSpecError> {
    let good = (1..libc::IFNAMSIZ).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/');
    good.then(|| name.to_owned())
        .ok_or_else(|| PortSpecError::BadName(name.to_owned()))
}

/// `sun_path` has room for so many bytes and a zero.
const MAX_PATH: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_as_written() {
        let cable = PortSpec::Cable {
            local: "/run/a".into(),
            remote: "/run/b".into(),
        };
        let long = format!("unix:/{},/b", "x".repeat(107));
        let table = [
            ("eth0", Ok(PortSpec::Interface("eth0".into()))),
            ("tap:gw1", Ok(PortSpec::Tap("gw1".into()))),
            ("unix:/run/a,/run/b", Ok(cable)),
            ("", Err(PortSpecError::Empty)),
            ("eth 0", Err(PortSpecError::BadName("eth 0".into()))),
            (
                "averylonginterface",
                Err(PortSpecError::BadName("averylonginterface".into())),
            ),
            ("tap:", Err(PortSpecError::BadName(String::new()))),
            ("unix:/run/a", Err(PortSpecError::BadCable("/run/a".into()))),
            ("unix:/a,/a", Err(PortSpecError::BadCable("/a,/a".into()))),
            (
                &long,
                Err(PortSpecError::PathTooLong {
                    path: format!("/{}", "x".repeat(107)),
                    len: 108,
                }),
            ),
        ];
        for (text, expected) in table {
            let parsed = text.parse::<PortSpec>();
            assert_eq!(parsed, expected, "{text}");
            if let Ok(port) = parsed {
                assert_eq!(port.to_string(), text, "it prints as it was written");
            }
        }
    }
}

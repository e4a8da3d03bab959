//! Where packages come from: the Debian mirror that this machine already uses, or those that were named.

use std::path::Path;
use std::process::Command;

use crate::error::BuildError;

/// Lines of a `sources.list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror(Vec<Source>);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The line itself.
    pub line: String,
    /// The mirror, without the slash at the end.
    pub uri: String,
    /// What it has.
    pub suite: String,
}

impl Mirror {
    /// The lines that were named; if none were, what this machine's apt uses, for `release`.
    pub fn new(named: &[String], release: &str) -> Result<Self, BuildError> {
        let lines = if named.is_empty() {
            of_this_machine(release)
        } else {
            named.to_vec()
        };
        if lines.is_empty() {
            return Err(BuildError::NoMirror {
                release: release.to_owned(),
            });
        }
        let sources = lines.iter().map(|line| {
            Source::parse(line).ok_or_else(|| BuildError::MirrorLine { line: line.clone() })
        });
        sources.collect::<Result<_, _>>().map(Self)
    }

    /// A `sources.list`.
    pub fn list(&self) -> String {
        self.0
            .iter()
            .map(|source| format!("{}\n", source.line))
            .collect()
    }

    /// The suites, in order.
    pub fn suites(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    /// The suite that has a file, and the file's path there.
    pub fn split<'a>(&self, uri: &'a str) -> Option<(&str, &'a str)> {
        let sources = self.0.iter().filter_map(|source| {
            let file = uri.strip_prefix(source.uri.as_str())?.strip_prefix('/')?;
            Some((source.suite.as_str(), file))
        });
        // The mirror whose address says most: "debian-security" also begins with "debian".
        sources.min_by_key(|(_, file)| file.len())
    }

    /// Where a file of a suite may be: first where the suite is, then anywhere else.
    pub fn places(&self, suite: &str, file: &str) -> Vec<String> {
        let (first, others): (Vec<_>, Vec<_>) =
            self.0.iter().partition(|source| source.suite == suite);
        let mut places = Vec::new();
        for source in first.into_iter().chain(others) {
            // A file is not copied from where it is unless one says so.
            let uri = match source.uri.strip_prefix("file:") {
                Some(path) => format!("copy:{path}"),
                None => source.uri.clone(),
            };
            let place = format!("{uri}/{file}");
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
}

impl Source {
    fn parse(line: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix("deb ")?.trim();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        uri.contains(':').then(|| Self {
            line: line.trim().to_owned(),
            uri: uri.trim_end_matches('/').to_owned(),
            suite: suite.to_owned(),
        })
    }
}

/// A `sources.list` of a release on the mirrors that this machine uses.
///
/// # Errors
/// If it uses none.
pub fn lines(release: &str) -> Result<String, BuildError> {
    Ok(Mirror::new(&[], release)?.list())
}

/// Asks this machine's apt; a machine without apt, or that is not Debian, has none.
fn of_this_machine(release: &str) -> Vec<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", FORMAT, "Created-By: Packages"])
        .output();
    let targets = match &output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout),
        _ => return Vec::new(),
    };
    let keys = Path::new(KEYS);
    sources(&targets, release, keys.exists().then_some(KEYS))
}

const FORMAT: &str = "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)";
/// Debian's own keys, also those of releases newer than this machine's.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Turns `ORIGIN CODENAME COMPONENT URI` lines into sources of `release` on the same mirrors.
fn sources(targets: &str, release: &str, keys: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    let signed = keys.map_or_else(String::new, |keys| format!("[signed-by={keys}] "));
    for target in targets.lines() {
        let mut words = target.split_whitespace();
        let (Some("Debian"), Some(codename), Some("main"), Some(uri)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let suffix = match codename.split_once('-') {
            None => "",
            Some((_, "updates")) => "-updates",
            Some((_, "security")) => "-security",
            Some(_) => continue,
        };
        let line = format!("deb {signed}{uri} {release}{suffix} main");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    // Updates alone are not a release.
    if lines
        .iter()
        .any(|line| line.ends_with(&format!(" {release} main")))
    {
        lines
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_mirrors_serve_our_release() {
        let targets = "Debian bookworm main http://mirror.example/debian/\n\
                       Debian bookworm contrib http://mirror.example/debian/\n\
                       Debian bookworm-updates main http://mirror.example/debian/\n\
                       Debian bookworm-backports main http://mirror.example/debian/\n\
                       Debian bookworm-security main http://security.example/\n\
                       . nodistro main https://vendor.example/\n\
                       Debian bookworm main http://mirror.example/debian/\n";
        assert_eq!(
            sources(targets, "trixie", None),
            [
                "deb http://mirror.example/debian/ trixie main",
                "deb http://mirror.example/debian/ trixie-updates main",
                "deb http://security.example/ trixie-security main",
            ]
        );
        assert_eq!(
            sources(targets, "trixie", Some("/keys"))[0],
            "deb [signed-by=/keys] http://mirror.example/debian/ trixie main"
        );
    }

    #[test]
    fn other_machines_have_none() {
        for targets in [
            "",
            "Ubuntu noble main http://mirror.example/ubuntu/\n",
            "Debian bookworm-updates main http://mirror.example/debian/\n",
        ] {
            assert!(sources(targets, "trixie", None).is_empty(), "{targets}");
        }
    }

    #[test]
    fn files_are_found_on_the_mirror_of_their_suite_first() {
        let lines = [
            "deb http://mirror.example/debian/ trixie main".to_owned(),
            "deb [signed-by=/keys] http://mirror.example/debian-security trixie-security main"
                .to_owned(),
            "deb [trusted=yes] file:/srv/ours ./".to_owned(),
        ];
        let mirror = Mirror::new(&lines, "trixie").unwrap();
        assert_eq!(
            mirror.split("http://mirror.example/debian-security/pool/x.deb"),
            Some(("trixie-security", "pool/x.deb"))
        );
        assert_eq!(mirror.split("http://elsewhere.example/x.deb"), None);
        assert_eq!(
            mirror.places("trixie-security", "pool/x.deb"),
            [
                "http://mirror.example/debian-security/pool/x.deb",
                "http://mirror.example/debian/pool/x.deb",
                "copy:/srv/ours/pool/x.deb",
            ]
        );
        assert_eq!(mirror.list().lines().count(), 3);
    }

    #[test]
    fn a_line_that_is_no_source_is_refused() {
        for line in [
            "http://mirror.example trixie main",
            "deb trixie",
            "deb [a=b http://x y",
        ] {
            let error = Mirror::new(&[line.to_owned()], "trixie").unwrap_err();
            assert!(error.to_string().contains(line), "{error}");
        }
    }
}

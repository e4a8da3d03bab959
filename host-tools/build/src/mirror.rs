//! Where packages come from: the Debian mirror that this machine already uses, else mmdebstrap's own choice.

use std::process::Command;

/// apt's settings for the trees we make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// Lines of a `sources.list`; empty for mmdebstrap's defaults.
    pub sources: Vec<String>,
    /// `Acquire::http::Proxy` of this machine.
    pub proxy: Option<String>,
}

impl Mirror {
    /// Asks this machine's apt; a machine without apt, or that is not Debian, gets the defaults.
    pub fn of_this_machine(release: &str) -> Self {
        let ask = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output().ok()?;
            output
                .status
                .success()
                .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let targets = ask(
            "apt-get",
            &["indextargets", "--format", FORMAT, "Created-By: Packages"],
        );
        let proxy = ask("apt-config", &["shell", "proxy", "Acquire::http::Proxy"]);
        Self {
            sources: sources(&targets.unwrap_or_default(), release),
            proxy: proxy.and_then(|text| {
                Some(
                    text.trim()
                        .strip_prefix("proxy='")?
                        .strip_suffix('\'')?
                        .to_owned(),
                )
            }),
        }
    }
}

const FORMAT: &str = "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)";

/// Turns `ORIGIN CODENAME COMPONENT URI` lines into sources of `release` on the same mirrors.
fn sources(targets: &str, release: &str) -> Vec<String> {
    let mut lines = Vec::new();
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
        let line = format!("deb {uri} {release}{suffix} main");
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
            sources(targets, "trixie"),
            [
                "deb http://mirror.example/debian/ trixie main",
                "deb http://mirror.example/debian/ trixie-updates main",
                "deb http://security.example/ trixie-security main",
            ]
        );
    }

    #[test]
    fn other_machines_get_the_defaults() {
        assert!(sources("", "trixie").is_empty());
        assert!(
            sources(
                "Ubuntu noble main http://mirror.example/ubuntu/\n",
                "trixie"
            )
            .is_empty()
        );
        assert!(
            sources(
                "Debian bookworm-updates main http://mirror.example/debian/\n",
                "trixie"
            )
            .is_empty()
        );
    }
}

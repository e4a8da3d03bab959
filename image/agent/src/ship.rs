//! Ships what waits to Sumo Logic's HTTP source.

use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::config::Sink;
use crate::figures::family;
use crate::spool::{self, Kind, Shipment, Spool};

/// Why nothing can be shipped.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// A file could not be read.
    #[error("cannot read {}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The secret is no URL that bodies could be posted to.
    #[error("{} holds no https:// URL", .0.display())]
    Url(PathBuf),
    /// Nobody could have signed the sink's certificate.
    #[error("{} holds no certificate", .0.display())]
    Authorities(PathBuf),
}

/// Ships one body after the other.
pub struct Shipper {
    agent: Agent,
    url: String,
    category: String,
    pause: Duration,
    spool: Arc<Spool>,
    report: Report,
}

/// What became of the shipments so far.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    shipped: AtomicU64,
    failed: AtomicU64,
    refused: AtomicBool,
}

/// What is to be done after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It is there.
    Done,
    /// Again, later.
    Later,
    /// Again, much later: somebody must mend the URL.
    Refused,
    /// Never: the sink cannot take this one.
    Hopeless,
}

impl Shipper {
    /// Reads the URL and whom to trust.
    pub fn new(sink: &Sink, spool: Arc<Spool>) -> Result<Self, ShipError> {
        let read = |path: &PathBuf| {
            let path = path.clone();
            fs::read(&path).map_err(|cause| ShipError::File { path, cause })
        };
        let url = String::from_utf8_lossy(&read(&sink.url_file)?)
            .trim()
            .to_owned();
        if !url.starts_with("https://") || url.contains(char::is_whitespace) {
            return Err(ShipError::Url(sink.url_file.clone()));
        }
        let pem = read(&sink.authorities)?;
        let certificates: Vec<_> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if certificates.is_empty() {
            return Err(ShipError::Authorities(sink.authorities.clone()));
        }
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(certificates)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        Ok(Self {
            agent,
            url,
            category: sink.category.clone(),
            pause: sink.pause,
            spool,
            report: Report::default(),
        })
    }

    /// What others can see of it.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// Ships for ever.
    pub fn work(self) {
        let mut failures = 0;
        loop {
            let next = match self.spool.oldest() {
                Ok(None) => {
                    thread::sleep(IDLE);
                    continue;
                }
                Ok(Some(shipment)) => self.ship(&shipment),
                Err(error) => {
                    eprintln!("cannot read the spool: {error}");
                    Next::Later
                }
            };
            match next {
                Next::Done | Next::Hopeless => failures = 0,
                Next::Later => {
                    thread::sleep(pause(self.pause, failures));
                    failures += 1;
                }
                Next::Refused => thread::sleep(pause(self.pause, MOST_DOUBLINGS)),
            }
        }
    }

    fn ship(&self, shipment: &Shipment) -> Next {
        let stale = || spool::age(&shipment.path).is_some_and(|age| age > OLDEST_FIGURES);
        let (next, why) = if shipment.kind == Kind::Figures && stale() {
            (Next::Hopeless, "figures of yesterday".to_owned())
        } else {
            match self.post(shipment) {
                Ok(status) => (verdict(status), format!("status {status}")),
                // The URL is a secret: what ureq says of it is not repeated.
                Err(ureq::Error::Io(error)) => (Next::Later, error.kind().to_string()),
                Err(ureq::Error::Timeout(_)) => (Next::Later, "it took too long".to_owned()),
                Err(ureq::Error::HostNotFound) => (Next::Later, "its name is unknown".to_owned()),
                Err(ureq::Error::Tls(error)) => (Next::Later, format!("TLS: {error}")),
                Err(ureq::Error::Rustls(error)) => (Next::Later, format!("TLS: {error}")),
                Err(_) => (Next::Later, "it could not be reached".to_owned()),
            }
        };
        let counts = &self.report.0;
        counts
            .refused
            .store(next == Next::Refused, Ordering::Relaxed);
        match next {
            Next::Done => drop(counts.shipped.fetch_add(1, Ordering::Relaxed)),
            Next::Later | Next::Refused | Next::Hopeless => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        match next {
            Next::Done => {}
            Next::Later => eprintln!(
                "the sink did not take {:?}: {why}; trying again",
                shipment.kind
            ),
            Next::Refused => eprintln!(
                "THE SINK REFUSES ITS URL ({why}): nothing is shipped until the file that [monitoring.sumo] names has the right one"
            ),
            Next::Hopeless => eprintln!("{:?} were dropped: {why}", shipment.kind),
        }
        if matches!(next, Next::Done | Next::Hopeless)
            && let Err(error) = self.spool.remove(shipment, next == Next::Done)
        {
            eprintln!("cannot remove {}: {error}", shipment.path.display());
            return Next::Later;
        }
        next
    }

    fn post(&self, shipment: &Shipment) -> Result<u16, ureq::Error> {
        let body = fs::read(&shipment.path)?;
        let (content, name) = match shipment.kind {
            Kind::Logs => ("text/plain; charset=utf-8", "syslog"),
            Kind::Figures => ("application/vnd.sumologic.prometheus", "prometheus"),
        };
        let answer = (self.agent.post(&self.url))
            .content_type(content)
            .header("Content-Encoding", "gzip")
            .header("X-Sumo-Category", &self.category)
            .header("X-Sumo-Host", &shipment.host)
            .header("X-Sumo-Name", name)
            .send(&body[..])?;
        Ok(answer.status().as_u16())
    }
}

fn verdict(status: u16) -> Next {
    match status {
        200..=299 => Next::Done,
        401 | 403 | 404 => Next::Refused,
        408 | 429 | 500..=599 => Next::Later,
        400 | 411 | 413 | 415 => Next::Hopeless,
        _ => Next::Later,
    }
}

/// Between half and all of a time that doubles with each failure.
fn pause(first: Duration, failures: u32) -> Duration {
    let most = first * 2_u32.pow(failures.min(MOST_DOUBLINGS));
    let random = RandomState::new().build_hasher().finish();
    most / 2 + (most / 2).mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

impl Report {
    /// As figures.
    pub fn text(&self, spool: &Spool) -> String {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (bytes, oldest) = spool.waiting();
        let figures = [
            (
                "ravelin_ship_shipped_total",
                "counter",
                "Bodies that the sink took.",
                load(&self.0.shipped),
            ),
            (
                "ravelin_ship_failed_total",
                "counter",
                "Attempts that failed.",
                load(&self.0.failed),
            ),
            (
                "ravelin_ship_dropped_total",
                "counter",
                "Bodies that were dropped without having been shipped.",
                spool.dropped(),
            ),
            (
                "ravelin_ship_refused",
                "gauge",
                "Whether the sink refuses our URL.",
                self.0.refused.load(Ordering::Relaxed).into(),
            ),
            (
                "ravelin_ship_waiting_bytes",
                "gauge",
                "Bytes that wait, compressed.",
                bytes,
            ),
            (
                "ravelin_ship_oldest_seconds",
                "gauge",
                "How long the oldest body has been waiting.",
                oldest.as_secs(),
            ),
        ];
        let mut text = String::new();
        for (name, kind, help, value) in figures {
            // Writing to a String cannot fail.
            let _ = family(&mut text, name, kind, help);
            let _ = writeln!(text, "{name} {value}");
        }
        text
    }
}

/// Puts Prometheus' figures into the spool, for ever.
pub fn collect(url: &str, spool: &Spool, every: Duration) {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    loop {
        thread::sleep(every);
        let text = ureq::get(url)
            .config()
            .timeout_global(Some(every))
            .build()
            .call();
        let text = text.and_then(|mut answer| {
            answer
                .body_mut()
                .with_config()
                .limit(MOST_FIGURES)
                .read_to_string()
        });
        let put = match text {
            Ok(text) => {
                let bodies = bodies(&text);
                bodies
                    .iter()
                    .try_for_each(|body| spool.put(Kind::Figures, host.trim(), body.as_bytes()))
            }
            Err(error) => {
                eprintln!("cannot read Prometheus' figures: {error}");
                continue;
            }
        };
        if let Err(error) = put {
            eprintln!("cannot write the spool: {error}");
        }
    }
}

/// Samples without comments, which the sink does not take, in bodies of a megabyte at most.
fn bodies(text: &str) -> Vec<String> {
    let mut bodies = vec![String::new()];
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let full = (bodies.last()).is_some_and(|body| body.len() + line.len() >= MOST_BODY);
        if full {
            bodies.push(String::new());
        }
        if let Some(body) = bodies.last_mut() {
            body.push_str(line);
            body.push('\n');
        }
    }
    bodies.retain(|body| !body.is_empty());
    bodies
}

const IDLE: Duration = Duration::from_millis(500);
const MOST_DOUBLINGS: u32 = 6;
const MOST_BODY: usize = 1_000_000;
const MOST_FIGURES: u64 = 64 << 20;
/// The sink drops older samples.
const OLDEST_FIGURES: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_their_consequences() {
        let table = [
            (200, Next::Done),
            (401, Next::Refused),
            (429, Next::Later),
            (408, Next::Later),
            (503, Next::Later),
            (504, Next::Later),
            (413, Next::Hopeless),
            (302, Next::Later),
        ];
        for (status, next) in table {
            assert_eq!(verdict(status), next, "{status}");
        }
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let first = Duration::from_secs(1);
        for failures in 0..100 {
            let doubled = first * 2_u32.pow(failures.min(6));
            let pause = pause(first, failures);
            assert!(
                pause >= doubled / 2 && pause <= doubled,
                "{failures}: {pause:?}"
            );
        }
    }

    #[test]
    fn figures_are_without_comments_and_in_pieces() {
        let sample = "up{job=\"node\"} 1 1700000000000\n";
        let text = format!("# TYPE up untyped\n{}\n", sample.repeat(50_000));
        let bodies = bodies(&text);
        assert!(bodies.len() > 1 && bodies.iter().all(|body| body.len() <= MOST_BODY));
        assert_eq!(bodies.concat(), sample.repeat(50_000));
    }
}

//! Figures that are counted from logs, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::appliance::Appliances;
use crate::line::Line;

/// What has been counted since this program started.
#[derive(Debug, Default)]
pub struct Figures {
    lines: BTreeMap<String, u64>,
    requests: BTreeMap<(String, String, u16), u64>,
    durations: BTreeMap<(String, String), Histogram>,
    drops: BTreeMap<(String, &'static str), u64>,
    unreadable: u64,
    appliances: Appliances,
    /// When each host's newest file was written.
    pub store: BTreeMap<String, SystemTime>,
    /// Files that were deleted before their time because there were too many.
    pub deleted_early: u64,
}

/// What an access log says of a request; the rest of it is for people.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    vhost: std::borrow::Cow<'a, str>,
    status: u16,
    seconds: f64,
}

impl Figures {
    /// Counts one line of a host.
    pub fn count(&mut self, host: &str, text: &str) {
        *self.lines.entry(host.to_owned()).or_default() += 1;
        let Some(line) = Line::parse(text) else {
            self.unreadable += 1;
            return;
        };
        if line.program == "nginx" && line.message.starts_with('{') {
            match serde_json::from_str(line.message) {
                Ok(request) => self.request(host, &request),
                Err(_) => self.unreadable += 1,
            }
        } else if line.program == "kernel" {
            for (mark, way) in DROPS {
                if line.message.contains(mark) {
                    *self.drops.entry((host.to_owned(), way)).or_default() += 1;
                }
            }
        } else {
            self.appliances.hear(host, &line);
        }
    }

    /// Takes note of what an appliance had said before this program started.
    pub fn recall(&mut self, host: &str, text: &str) {
        if let Some(line) = Line::parse(text) {
            self.appliances.note(host, &line);
        }
    }

    fn request(&mut self, host: &str, request: &Request<'_>) {
        // Names are those of the configuration; should somebody invent others, memory stays bounded.
        let known = self
            .durations
            .contains_key(&(host.to_owned(), request.vhost.to_string()));
        let vhost = match known || self.durations.len() < MOST_VHOSTS {
            true => request.vhost.to_string(),
            false => "other".to_owned(),
        };
        let key = (host.to_owned(), vhost.clone(), request.status);
        *self.requests.entry(key).or_default() += 1;
        let histogram = self.durations.entry((host.to_owned(), vhost)).or_default();
        histogram.count(request.seconds);
    }
}

/// Virtual hosts of all servers together.
const MOST_VHOSTS: usize = 256;

/// How the rules of a server mark what they drop.
const DROPS: [(&str, &str); 2] = [("ravelin drop in: ", "in"), ("ravelin drop out: ", "out")];

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

/// Upper bounds, in seconds.
const BUCKETS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

impl Histogram {
    fn count(&mut self, seconds: f64) {
        for (bucket, bound) in self.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum += seconds;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        family(
            f,
            "ravelin_log_lines_total",
            "counter",
            "Lines of a host's log.",
        )?;
        for (host, count) in &self.lines {
            writeln!(f, "ravelin_log_lines_total{{host=\"{host}\"}} {count}")?;
        }
        family(
            f,
            "ravelin_log_unreadable_total",
            "counter",
            "Lines that nobody understood.",
        )?;
        writeln!(f, "ravelin_log_unreadable_total {}", self.unreadable)?;
        let name = "ravelin_log_written_timestamp_seconds";
        family(f, name, "gauge", "When a host's log was last written.")?;
        for (host, time) in &self.store {
            let seconds = time
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            writeln!(f, "{name}{{host=\"{host}\"}} {seconds}")?;
        }
        let name = "ravelin_logs_deleted_early_total";
        family(
            f,
            name,
            "counter",
            "Logs that were deleted before their time, for room.",
        )?;
        writeln!(f, "{name} {}", self.deleted_early)?;
        let name = "ravelin_http_requests_total";
        family(
            f,
            name,
            "counter",
            "Requests in the access logs of the web servers.",
        )?;
        for ((host, vhost, status), count) in &self.requests {
            let vhost = escaped(vhost);
            writeln!(
                f,
                "{name}{{host=\"{host}\",vhost=\"{vhost}\",status=\"{status}\"}} {count}"
            )?;
        }
        let name = "ravelin_http_request_seconds";
        family(f, name, "histogram", "How long the web servers took.")?;
        for ((host, vhost), histogram) in &self.durations {
            let labels = format!("host=\"{host}\",vhost=\"{}\"", escaped(vhost));
            for (bucket, bound) in histogram.buckets.iter().zip(BUCKETS) {
                writeln!(f, "{name}_bucket{{{labels},le=\"{bound}\"}} {bucket}")?;
            }
            let Histogram { count, sum, .. } = histogram;
            writeln!(f, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
            writeln!(f, "{name}_sum{{{labels}}} {sum}")?;
            writeln!(f, "{name}_count{{{labels}}} {count}")?;
        }
        let name = "ravelin_firewall_drops_logged_total";
        family(
            f,
            name,
            "counter",
            "Packets that a server's own firewall dropped and logged.",
        )?;
        for ((host, way), count) in &self.drops {
            writeln!(f, "{name}{{host=\"{host}\",direction=\"{way}\"}} {count}")?;
        }
        self.appliances.fmt(f)
    }
}

/// The head of a family of figures.
pub fn family(f: &mut impl fmt::Write, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(f, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// As a label's value stands between quotes.
pub fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

/// Replaces the file at once, so that nobody reads half of it.
pub fn publish(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_make_counters_and_a_histogram() {
        let mut figures = Figures::default();
        for (status, seconds) in [(200, 0.004), (200, 0.3), (502, 40.0)] {
            figures.count(
                "web1",
                &format!(
                    r#"<190>1 - web1 nginx - - - {{"vhost":"www.x","status":{status},"seconds":{seconds},"uri":"/\""}}"#
                ),
            );
        }
        figures.count(
            "web1",
            "<4>1 - web1 kernel - - - [1.2] ravelin drop in: IN=eth0",
        );
        figures.count("web1", "garbage");
        figures.count("web1", "<190>1 - web1 nginx - - - {\"vhost\":3}");
        let text = figures.to_string();
        for line in [
            "ravelin_log_lines_total{host=\"web1\"} 6",
            "ravelin_log_unreadable_total 2",
            "ravelin_http_requests_total{host=\"web1\",vhost=\"www.x\",status=\"200\"} 2",
            "ravelin_http_requests_total{host=\"web1\",vhost=\"www.x\",status=\"502\"} 1",
            "ravelin_http_request_seconds_bucket{host=\"web1\",vhost=\"www.x\",le=\"0.005\"} 1",
            "ravelin_http_request_seconds_bucket{host=\"web1\",vhost=\"www.x\",le=\"0.25\"} 1",
            "ravelin_http_request_seconds_bucket{host=\"web1\",vhost=\"www.x\",le=\"30\"} 2",
            "ravelin_http_request_seconds_bucket{host=\"web1\",vhost=\"www.x\",le=\"+Inf\"} 3",
            "ravelin_http_request_seconds_count{host=\"web1\",vhost=\"www.x\"} 3",
            "ravelin_firewall_drops_logged_total{host=\"web1\",direction=\"in\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    #[test]
    fn invented_names_do_not_grow_memory() {
        let mut figures = Figures::default();
        for n in 0..10_000 {
            let text =
                format!(r#"<190>1 - web1 nginx - - - {{"vhost":"{n}","status":200,"seconds":0}}"#);
            figures.count("web1", &text);
        }
        assert!(figures.durations.len() <= MOST_VHOSTS + 1);
        assert_eq!(figures.requests.values().sum::<u64>(), 10_000);
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}

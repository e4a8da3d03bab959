//! Every alert of the example's monitor fires when it should and is silent when it should be, as Debian's own promtool
//! sees it; promtool and amtool take all that is rendered. Both come out of the monitor's image.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// One alert: what makes it fire, and what does not.
struct Case {
    name: &'static str,
    severity: &'static str,
    /// Series, each with its samples at every half minute.
    bad: &'static [(&'static str, &'static str)],
    good: &'static [(&'static str, &'static str)],
    /// When both are looked at.
    at: &'static str,
    labels: &'static [(&'static str, &'static str)],
    summary: &'static str,
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    let monitor = Monitor::new();
    let rules = monitor.file("/etc/prometheus/rules.yml");
    monitor.promtool(&["check", "rules"], &rules);

    let named: BTreeSet<String> = std::fs::read_to_string(&rules)
        .expect("rendered")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: ").map(str::to_owned))
        .collect();
    let cases = cases();
    let tested: BTreeSet<String> = cases.iter().map(|case| case.name.to_owned()).collect();
    assert_eq!(named, tested, "every alert has a case, every case an alert");

    let test = |case: &Case, series: &[(&str, &str)], fires: bool| {
        let severity = ("severity", case.severity);
        let labels = case.labels.iter().chain([&severity]);
        let labels: Value = labels
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let expected =
            json!({ "exp_labels": labels, "exp_annotations": { "summary": case.summary } });
        let series = series
            .iter()
            .map(|(series, values)| json!({ "series": series, "values": values }));
        json!({
            "name": format!("{} {}", case.name, if fires { "fires" } else { "is silent" }),
            "interval": "30s",
            "input_series": series.collect::<Vec<_>>(),
            "alert_rule_test": [{
                "eval_time": case.at,
                "alertname": case.name,
                "exp_alerts": if fires { vec![expected] } else { Vec::new() },
            }],
        })
    };
    let tests: Vec<Value> = (cases.iter())
        .flat_map(|case| [test(case, case.bad, true), test(case, case.good, false)])
        .collect();
    let file = monitor.etc.path().join("tests.yml");
    let all = json!({ "rule_files": [rules], "evaluation_interval": "30s", "tests": tests });
    std::fs::write(&file, format!("{all:#}")).expect("written");
    monitor.promtool(&["test", "rules"], &file);
    println!("{} alerts, two tests each", cases.len());

    // A case that expects the opposite is found out: the tests can fail.
    let wrong = json!({ "rule_files": [rules], "tests": [test(&cases[0], cases[0].good, true)] });
    std::fs::write(&file, wrong.to_string()).expect("written");
    assert!(!monitor.run("promtool", &["test", "rules"], &file).0);
}

#[test]
fn prometheus_and_alertmanager_take_what_is_rendered() {
    let monitor = Monitor::new();
    let config =
        std::fs::read_to_string(monitor.file("/etc/prometheus/prometheus.yml")).expect("rendered");
    // Keys and rules are elsewhere on this machine.
    let here = config.replace(
        "/etc/prometheus/rules.yml",
        &monitor
            .file("/etc/prometheus/rules.yml")
            .display()
            .to_string(),
    );
    let here = here.replace(
        "/etc/ravelin/",
        &format!("{}/etc/ravelin/", monitor.etc.path().display()),
    );
    let credentials = format!("{}/etc/ravelin/", monitor.etc.path().display());
    let here = here.replace("/run/credentials/prometheus.service/", &credentials);
    let file = monitor.etc.path().join("prometheus.yml");
    std::fs::write(&file, here).expect("written");
    monitor.promtool(&["check", "config"], &file);
    let (good, said) = monitor.run(
        "amtool",
        &["check-config"],
        &monitor.file("/etc/ravelin/alertmanager.yml"),
    );
    assert!(good, "{said}");
}

/// The monitor's image and its own files.
struct Monitor {
    root: PathBuf,
    etc: tempfile::TempDir,
}

impl Monitor {
    fn new() -> Self {
        let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("alerts");
        let plan = image_test::example_with(
            "[monitoring]\nresolvers = [\"192.0.2.53\"]\nalerts = { webhook = \"https://hook.example/\" }\nsumo = { url_file = \"sumo.url\" }\n",
        );
        std::fs::create_dir_all(&state).expect("a directory");
        image_test::secret(&state.join("../sumo.url"), "https://collectors.example/x");
        let images = image_test::build(&plan, &state, Some(&["mon1"]), &|_| ()).expect("built");
        let etc = tempfile::tempdir().expect("a directory");
        for file in &images[0].host_files {
            let path = etc.path().join(file.path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, &file.bytes).expect("written");
        }
        Self {
            root: images[0].root_tree.clone(),
            etc,
        }
    }

    fn file(&self, path: &str) -> PathBuf {
        self.etc.path().join(path.trim_start_matches('/'))
    }

    /// Runs a program of the image with the image's own libraries, on this machine's files.
    fn run(&self, program: &str, arguments: &[&str], file: &Path) -> (bool, String) {
        let output = Command::new(self.root.join("usr/lib64/ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(self.root.join("usr/lib/x86_64-linux-gnu"))
            .arg(self.root.join("usr/bin").join(program))
            .args(arguments)
            .arg(file)
            .output()
            .expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    fn promtool(&self, arguments: &[&str], file: &Path) {
        let (good, said) = self.run("promtool", arguments, file);
        assert!(good, "{said}");
    }
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "ServerDown",
            severity: "critical",
            bad: &[(r#"up{job="node",server="web1"}"#, "1 0x20")],
            good: &[(r#"up{job="node",server="web1"}"#, "0 0 1x20")],
            at: "5m",
            labels: &[("job", "node"), ("server", "web1")],
            summary: "web1 does not answer the monitor",
        },
        Case {
            name: "ExporterDown",
            severity: "critical",
            bad: &[(r#"up{job="nginx",server="web1"}"#, "0x20")],
            good: &[
                (r#"up{job="nginx",server="web1"}"#, "1x20"),
                (r#"up{job="node",server="web1"}"#, "0x20"),
            ],
            at: "5m",
            labels: &[("job", "nginx"), ("server", "web1")],
            summary: "nginx on web1 does not answer the monitor",
        },
        Case {
            name: "UnitFailed",
            severity: "warning",
            bad: &[(
                r#"ravelin_unit_active{server="web1",unit="nginx.service"}"#,
                "0x20",
            )],
            good: &[(
                r#"ravelin_unit_active{server="web1",unit="nginx.service"}"#,
                "1x20",
            )],
            at: "5m",
            labels: &[("server", "web1"), ("unit", "nginx.service")],
            summary: "nginx.service of web1 has failed",
        },
        Case {
            name: "UnitRestarts",
            severity: "warning",
            bad: &[(
                r#"ravelin_unit_restarts_total{server="web1",unit="nginx.service"}"#,
                "0+1x40",
            )],
            good: &[(
                r#"ravelin_unit_restarts_total{server="web1",unit="nginx.service"}"#,
                "0x20 1x20",
            )],
            at: "15m",
            labels: &[("server", "web1"), ("unit", "nginx.service")],
            summary: "nginx.service of web1 ends again and again",
        },
        Case {
            name: "DiskFullSoon",
            severity: "warning",
            bad: &[
                (
                    r#"node_filesystem_avail_bytes{server="web1",mountpoint="/var"}"#,
                    "400-1x200",
                ),
                (
                    r#"node_filesystem_size_bytes{server="web1",mountpoint="/var"}"#,
                    "1000x200",
                ),
            ],
            // So much is left that it lasts for days; and what fills up begins nearly empty.
            good: &[
                (
                    r#"node_filesystem_avail_bytes{server="web1",mountpoint="/var"}"#,
                    "400-0.01x200",
                ),
                (
                    r#"node_filesystem_size_bytes{server="web1",mountpoint="/var"}"#,
                    "1000x200",
                ),
            ],
            at: "80m",
            labels: &[("server", "web1"), ("mountpoint", "/var")],
            summary: "/var of web1 will be full within 4 hours",
        },
        Case {
            name: "DiskAlmostFull",
            severity: "critical",
            bad: &[
                (
                    r#"node_filesystem_avail_bytes{server="web1",mountpoint="/var"}"#,
                    "99x40",
                ),
                (
                    r#"node_filesystem_size_bytes{server="web1",mountpoint="/var"}"#,
                    "1000x40",
                ),
            ],
            good: &[
                (
                    r#"node_filesystem_avail_bytes{server="web1",mountpoint="/var"}"#,
                    "101x40",
                ),
                (
                    r#"node_filesystem_size_bytes{server="web1",mountpoint="/var"}"#,
                    "1000x40",
                ),
            ],
            at: "10m",
            labels: &[("server", "web1"), ("mountpoint", "/var")],
            summary: "/var of web1 is almost full",
        },
        Case {
            name: "MemoryShort",
            severity: "warning",
            bad: &[
                (r#"node_memory_MemAvailable_bytes{server="db1"}"#, "90x60"),
                (r#"node_memory_MemTotal_bytes{server="db1"}"#, "1000x60"),
            ],
            good: &[
                (r#"node_memory_MemAvailable_bytes{server="db1"}"#, "110x60"),
                (r#"node_memory_MemTotal_bytes{server="db1"}"#, "1000x60"),
            ],
            at: "15m",
            labels: &[("server", "db1")],
            summary: "db1 has little memory left",
        },
        Case {
            name: "CertificateExpires",
            severity: "warning",
            bad: &[(
                r#"probe_ssl_earliest_cert_expiry{instance="web1:9113",server="web1"}"#,
                "1209000x60",
            )],
            good: &[(
                r#"probe_ssl_earliest_cert_expiry{instance="web1:9113",server="web1"}"#,
                "1211000x60",
            )],
            at: "15m",
            labels: &[("instance", "web1:9113"), ("server", "web1")],
            summary: "a certificate shown by web1:9113 expires in less than two weeks",
        },
        Case {
            name: "LogSilence",
            severity: "warning",
            bad: &[(
                r#"ravelin_log_written_timestamp_seconds{host="web1"}"#,
                "0x60",
            )],
            good: &[(
                r#"ravelin_log_written_timestamp_seconds{host="web1"}"#,
                "0+30x60",
            )],
            at: "10m",
            labels: &[("host", "web1")],
            summary: "no log line from web1 for five minutes",
        },
        Case {
            name: "SiteDown",
            severity: "critical",
            bad: &[(
                r#"probe_success{job="site",address="203.0.113.10"}"#,
                "0x20",
            )],
            good: &[
                (
                    r#"probe_success{job="site",address="203.0.113.10"}"#,
                    "1x20",
                ),
                (r#"probe_success{job="site",server="lb2"}"#, "0x20"),
            ],
            at: "5m",
            labels: &[("job", "site"), ("address", "203.0.113.10")],
            summary: "www.foobar.com does not answer on 203.0.113.10",
        },
        Case {
            name: "BackendDown",
            severity: "warning",
            bad: &[(
                r#"haproxy_server_status{state="UP",server="lb1",exported_server="web1",proxy="web"}"#,
                "0x20",
            )],
            good: &[
                (
                    r#"haproxy_server_status{state="UP",server="lb1",exported_server="web1",proxy="web"}"#,
                    "1x20",
                ),
                (
                    r#"haproxy_server_status{state="DOWN",server="lb1",proxy="web"}"#,
                    "0x20",
                ),
            ],
            at: "5m",
            labels: &[
                ("state", "UP"),
                ("server", "lb1"),
                ("exported_server", "web1"),
                ("proxy", "web"),
            ],
            summary: "lb1 sends no requests to web1",
        },
        Case {
            name: "NoBackend",
            severity: "critical",
            bad: &[(
                r#"haproxy_backend_active_servers{server="lb1",proxy="web"}"#,
                "0x20",
            )],
            good: &[(
                r#"haproxy_backend_active_servers{server="lb1",proxy="web"}"#,
                "1x20",
            )],
            at: "5m",
            labels: &[("server", "lb1"), ("proxy", "web")],
            summary: "lb1 has no web server left",
        },
        Case {
            name: "Errors",
            severity: "critical",
            bad: &[
                (
                    r#"haproxy_frontend_http_responses_total{proxy="users-https",code="5xx"}"#,
                    "0+6x60",
                ),
                (
                    r#"haproxy_frontend_http_responses_total{proxy="users-https",code="2xx"}"#,
                    "0+94x60",
                ),
            ],
            good: &[
                (
                    r#"haproxy_frontend_http_responses_total{proxy="users-https",code="5xx"}"#,
                    "0+4x60",
                ),
                (
                    r#"haproxy_frontend_http_responses_total{proxy="users-https",code="2xx"}"#,
                    "0+96x60",
                ),
            ],
            at: "10m",
            labels: &[],
            summary: "more than one request in twenty fails",
        },
        Case {
            name: "Slow",
            severity: "warning",
            bad: &[
                (
                    r#"ravelin_http_request_seconds_bucket{vhost="x",le="1"}"#,
                    "0+90x60",
                ),
                (
                    r#"ravelin_http_request_seconds_bucket{vhost="x",le="2.5"}"#,
                    "0+100x60",
                ),
                (
                    r#"ravelin_http_request_seconds_bucket{vhost="x",le="+Inf"}"#,
                    "0+100x60",
                ),
            ],
            good: &[
                (
                    r#"ravelin_http_request_seconds_bucket{vhost="x",le="1"}"#,
                    "0+100x60",
                ),
                (
                    r#"ravelin_http_request_seconds_bucket{vhost="x",le="2.5"}"#,
                    "0+100x60",
                ),
                (
                    r#"ravelin_http_request_seconds_bucket{vhost="x",le="+Inf"}"#,
                    "0+100x60",
                ),
            ],
            at: "15m",
            labels: &[],
            summary: "one request in a hundred takes longer than a second",
        },
        Case {
            name: "NoActiveAppliance",
            severity: "critical",
            // The one that was Active is gone, and the other has not said anything.
            bad: &[
                (r#"ravelin_appliance_active{appliance="gw1"}"#, "1x20"),
                (r#"ravelin_appliance_active{appliance="gw2"}"#, "0x20"),
                (r#"probe_success{job="appliance",appliance="gw1"}"#, "0x20"),
                (r#"probe_success{job="appliance",appliance="gw2"}"#, "1x20"),
            ],
            good: &[
                (r#"ravelin_appliance_active{appliance="gw1"}"#, "1x20"),
                (r#"ravelin_appliance_active{appliance="gw2"}"#, "0x20"),
                (r#"probe_success{job="appliance",appliance="gw1"}"#, "1x20"),
                (r#"probe_success{job="appliance",appliance="gw2"}"#, "1x20"),
            ],
            at: "5m",
            labels: &[],
            summary: "no appliance says that it has the virtual addresses",
        },
        Case {
            name: "SeveralActiveAppliances",
            severity: "critical",
            bad: &[
                (r#"ravelin_appliance_active{appliance="gw1"}"#, "1x20"),
                (r#"ravelin_appliance_active{appliance="gw2"}"#, "1x20"),
                (r#"probe_success{job="appliance",appliance="gw1"}"#, "1x20"),
                (r#"probe_success{job="appliance",appliance="gw2"}"#, "1x20"),
            ],
            // One of them is gone and never said that it is not Active any more.
            good: &[
                (r#"ravelin_appliance_active{appliance="gw1"}"#, "1x20"),
                (r#"ravelin_appliance_active{appliance="gw2"}"#, "1x20"),
                (r#"probe_success{job="appliance",appliance="gw1"}"#, "0x20"),
                (r#"probe_success{job="appliance",appliance="gw2"}"#, "1x20"),
            ],
            at: "5m",
            labels: &[],
            summary: "more than one appliance says that it has the virtual addresses",
        },
        Case {
            name: "ApplianceDown",
            severity: "critical",
            bad: &[(r#"probe_success{job="appliance",appliance="gw1"}"#, "0x20")],
            good: &[(r#"probe_success{job="appliance",appliance="gw1"}"#, "1x20")],
            at: "5m",
            labels: &[("job", "appliance"), ("appliance", "gw1")],
            summary: "gw1 does not answer the monitor",
        },
        Case {
            name: "AppliancePeerLost",
            severity: "warning",
            bad: &[(r#"ravelin_appliance_peer{appliance="gw2"}"#, "0x20")],
            good: &[(r#"ravelin_appliance_peer{appliance="gw2"}"#, "1x20")],
            at: "5m",
            labels: &[("appliance", "gw2")],
            summary: "gw2 does not hear its peer",
        },
        Case {
            name: "ApplianceNotInSync",
            severity: "warning",
            bad: &[(r#"ravelin_appliance_in_sync{appliance="gw2"}"#, "0x20")],
            good: &[(r#"ravelin_appliance_in_sync{appliance="gw2"}"#, "0 0 1x20")],
            at: "5m",
            labels: &[("appliance", "gw2")],
            summary: "gw2 does not know all connections",
        },
        Case {
            name: "DatabaseDown",
            severity: "critical",
            bad: &[(r#"mysql_up{server="db1"}"#, "0x20")],
            good: &[(r#"mysql_up{server="db1"}"#, "1x20")],
            at: "5m",
            labels: &[("server", "db1")],
            summary: "the database on db1 does not answer",
        },
        Case {
            name: "ClusterSmall",
            severity: "warning",
            bad: &[(
                r#"mysql_global_status_wsrep_cluster_size{server="db1"}"#,
                "2x20",
            )],
            good: &[
                (
                    r#"mysql_global_status_wsrep_cluster_size{server="db1"}"#,
                    "3x20",
                ),
                (
                    r#"mysql_global_status_wsrep_cluster_size{server="db2"}"#,
                    "0x20",
                ),
            ],
            at: "5m",
            labels: &[("server", "db1")],
            summary: "db1 sees 2 members of the database cluster",
        },
        Case {
            name: "SemiSyncOff",
            severity: "critical",
            bad: &[
                (
                    r#"mysql_global_variables_rpl_semi_sync_master_enabled{server="db1"}"#,
                    "1x20",
                ),
                (
                    r#"mysql_global_status_rpl_semi_sync_master_status{server="db1"}"#,
                    "0x20",
                ),
            ],
            good: &[
                (
                    r#"mysql_global_variables_rpl_semi_sync_master_enabled{server="db1"}"#,
                    "0x20",
                ),
                (
                    r#"mysql_global_status_rpl_semi_sync_master_status{server="db1"}"#,
                    "0x20",
                ),
            ],
            at: "5m",
            labels: &[("server", "db1")],
            summary: "db1 acknowledges what no replica has",
        },
        Case {
            name: "ReplicaLag",
            severity: "warning",
            bad: &[(
                r#"mysql_slave_status_seconds_behind_master{server="db2"}"#,
                "31x20",
            )],
            good: &[(
                r#"mysql_slave_status_seconds_behind_master{server="db2"}"#,
                "29x20",
            )],
            at: "5m",
            labels: &[("server", "db2")],
            summary: "the replica db2 is behind",
        },
        Case {
            name: "ReplicaStopped",
            severity: "critical",
            bad: &[(
                r#"mysql_slave_status_slave_sql_running{server="db2"}"#,
                "0x20",
            )],
            good: &[
                (
                    r#"mysql_slave_status_slave_sql_running{server="db2"}"#,
                    "1x20",
                ),
                (
                    r#"mysql_slave_status_slave_io_running{server="db2"}"#,
                    "1x20",
                ),
            ],
            at: "5m",
            labels: &[("server", "db2")],
            summary: "the replica db2 does not follow",
        },
        Case {
            name: "BackupOld",
            severity: "warning",
            bad: &[
                (
                    r#"ravelin_backup_last_timestamp_seconds{server="mon1"}"#,
                    "-200000x200",
                ),
                (
                    r#"ravelin_backup_interval_seconds{server="mon1"}"#,
                    "86400x200",
                ),
            ],
            good: &[
                (
                    r#"ravelin_backup_last_timestamp_seconds{server="mon1"}"#,
                    "-86400x200",
                ),
                (
                    r#"ravelin_backup_interval_seconds{server="mon1"}"#,
                    "86400x200",
                ),
            ],
            at: "90m",
            labels: &[("server", "mon1")],
            summary: "the newest backup of the database is older than it should be: one has failed",
        },
        Case {
            name: "AgentStalled",
            severity: "warning",
            bad: &[(
                r#"node_textfile_mtime_seconds{server="mon1",file="/x/agent.prom"}"#,
                "0x40",
            )],
            good: &[(
                r#"node_textfile_mtime_seconds{server="mon1",file="/x/agent.prom"}"#,
                "0+30x40",
            )],
            at: "10m",
            labels: &[("server", "mon1"), ("file", "/x/agent.prom")],
            summary: "nobody counts the logs on mon1",
        },
        Case {
            name: "AlertsNotSent",
            severity: "warning",
            bad: &[(
                r#"alertmanager_notifications_failed_total{integration="webhook"}"#,
                "0+1x60",
            )],
            good: &[(
                r#"alertmanager_notifications_failed_total{integration="webhook"}"#,
                "3x60",
            )],
            at: "15m",
            labels: &[("integration", "webhook")],
            summary: "alerts do not reach webhook",
        },
        Case {
            name: "LogsDropped",
            severity: "warning",
            bad: &[(
                r#"ravelin_logs_deleted_early_total{server="mon1"}"#,
                "0x5 1x40",
            )],
            good: &[(r#"ravelin_logs_deleted_early_total{server="mon1"}"#, "1x40")],
            at: "10m",
            labels: &[("server", "mon1")],
            summary: "there are more logs than room for them",
        },
        Case {
            name: "ShipmentRefused",
            severity: "critical",
            bad: &[(r#"ravelin_ship_refused{server="mon1"}"#, "1x20")],
            good: &[(r#"ravelin_ship_refused{server="mon1"}"#, "0x20")],
            at: "5m",
            labels: &[("server", "mon1")],
            summary: "Sumo Logic refuses the URL in sumo.url: it takes nothing",
        },
        Case {
            name: "ShipmentDropped",
            severity: "critical",
            bad: &[(r#"ravelin_ship_dropped_total{server="mon1"}"#, "0x5 1x40")],
            good: &[(r#"ravelin_ship_dropped_total{server="mon1"}"#, "1x40")],
            at: "10m",
            labels: &[("server", "mon1")],
            summary: "what Sumo Logic did not take in time was dropped",
        },
        Case {
            name: "ShipmentWaits",
            severity: "warning",
            bad: &[(r#"ravelin_ship_oldest_seconds{server="mon1"}"#, "1000x40")],
            good: &[(r#"ravelin_ship_oldest_seconds{server="mon1"}"#, "800x40")],
            at: "10m",
            labels: &[("server", "mon1")],
            summary: "Sumo Logic has taken nothing for a quarter of an hour",
        },
    ]
}

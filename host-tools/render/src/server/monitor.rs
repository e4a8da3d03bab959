//! What watches all others.

use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;
use site::Plan;
use site::plan::{Action, Role, Server, Traffic, ports};

use super::{HostFile, Material, TLS, db, needed, of_role, public, secret, sockets};
use crate::{RenderError, template};

pub(super) fn files(
    plan: &Plan,
    server: &Server,
    material: &Material,
) -> Result<Vec<HostFile>, RenderError> {
    let mut files = vec![
        public("/etc/prometheus/prometheus.yml", prometheus(plan, server)?),
        public("/etc/prometheus/rules.yml", rules(plan)?),
        public(
            "/etc/default/prometheus",
            prometheus_arguments(plan, server),
        ),
        told(plan, alertmanager(plan, server, material)?),
        public(
            "/etc/default/prometheus-alertmanager",
            alertmanager_arguments(),
        ),
        public(
            "/etc/prometheus/blackbox.yml",
            template::fill(
                "roles/monitor/templates/blackbox.yml",
                context! { domain => &*plan.domain, tls => TLS },
            )?,
        ),
        public(
            "/etc/default/prometheus-blackbox-exporter",
            blackbox_arguments(),
        ),
        public("/etc/nginx/nginx.conf", page(plan, server)?),
        public("/etc/ravelin/site.json", site(plan)),
        public("/etc/ravelin/ca.pem", material.ca.clone()),
        public("/etc/default/ravelin-agent", agent(plan)),
    ];
    if !plan.monitoring.resolvers.is_empty() {
        let lines = plan
            .monitoring
            .resolvers
            .iter()
            .map(|address| format!("nameserver {address}\n"));
        files.push(public("/etc/resolv.conf", lines.collect()));
    }
    files.extend(db::monitor(plan, server, material)?);
    // Whoever sends logs shows a certificate of its tier; its name is compared with those of the servers.
    let tiers: Vec<&str> = material.tiers.values().map(String::as_str).collect();
    files.push(public(&format!("{TLS}/trust-servers.pem"), tiers.concat()));
    let mail_ca = material.mail.as_ref().and_then(|mail| mail.ca.clone());
    files.extend(mail_ca.map(|ca| public(MAIL_CA, ca)));
    // There is always such a file, so that the unit can always be given it.
    files.push(match plan.monitoring.sumo {
        Some(_) => {
            let url = needed(server, "the URL of its sink", material.sumo_url.as_deref())?;
            secret(SUMO_URL, format!("{url}\n"))
        }
        None => public(SUMO_URL, String::new()),
    });
    Ok(files)
}

/// Daemons that Prometheus asks on this port of these servers.
#[derive(Serialize)]
struct Job<'a> {
    name: String,
    /// What readers of the figures know the job by.
    label: &'static str,
    port: u16,
    /// Whose authority must have signed their certificates.
    trust: &'static str,
    servers: Vec<&'a Server>,
}

/// Something that the monitor asks as users do.
#[derive(Serialize)]
struct Probe<'a> {
    url: String,
    /// The label that says what was asked.
    key: &'static str,
    name: &'a str,
}

fn prometheus(plan: &Plan, server: &Server) -> Result<String, RenderError> {
    let interval = plan.monitoring.scrape_interval;
    let job = |label: &'static str, port, role: Role| Job {
        name: format!("{label}-{}", role.name()),
        label,
        port,
        trust: role.name(),
        servers: of_role(plan, role),
    };
    // One job for each role: only the authority of its tier is believed.
    let nodes = Role::ALL.map(|role| job("node", ports::NODE_EXPORTER, role));
    let others = [
        job("haproxy", ports::HAPROXY_METRICS, Role::Haproxy),
        job("nginx", ports::NGINX_EXPORTER, Role::Nginx),
        job("database", ports::MYSQL_EXPORTER, Role::Db),
    ];
    let mut jobs: Vec<Job<'_>> = (nodes.into_iter().chain(others))
        .filter(|job| !job.servers.is_empty())
        .collect();
    if plan.database.backup.to == server.name {
        jobs.push(Job {
            servers: vec![server],
            ..job("backup", ports::DB_BACKUP, Role::Monitor)
        });
    }
    let mut probes = Vec::new();
    for service in plan
        .services
        .iter()
        .filter(|service| service.name == "https")
    {
        let address = service.address;
        let url = format!("https://{address}:{}/", service.port);
        probes.push((url, "address", address.to_string()));
        for member in &service.servers {
            let address = plan.server(&member.server).map(|server| server.address);
            let url = address.map(|address| format!("https://{address}:{}/", service.server_port));
            probes.extend(url.map(|url| (url, "server", member.server.clone())));
        }
    }
    let probes: Vec<Probe<'_>> = (probes.iter())
        .map(|(url, key, name)| Probe {
            url: url.clone(),
            key,
            name,
        })
        .collect();
    // Each server shows the same certificate wherever it listens.
    let certificates = plan.servers.iter().map(|server| Probe {
        url: format!("{}:{}", server.name, ports::NODE_EXPORTER),
        key: "server",
        name: &server.name,
    });
    let certificates: Vec<Probe<'_>> = certificates.collect();
    // An appliance that is gone says nothing more: whether it is there is asked on the leg in our network.
    let appliances = plan.appliances.iter().flat_map(|appliance| {
        let legs = appliance
            .legs
            .iter()
            .filter(|leg| leg.network == server.network);
        legs.map(|leg| Probe {
            url: leg.address.to_string(),
            key: "appliance",
            name: &appliance.name,
        })
    });
    let appliances: Vec<Probe<'_>> = appliances.collect();
    Ok(template::fill(
        "roles/monitor/templates/prometheus.yml",
        context! {
            site => &*plan.name,
            interval,
            timeout => interval.min(10),
            tls => TLS,
            jobs => Value::from(Serde(&jobs)),
            probes => Value::from(Serde(&probes)),
            certificates => Value::from(Serde(&certificates)),
            appliances => Value::from(Serde(&appliances)),
            prometheus => ports::PROMETHEUS,
            alertmanager => ALERTMANAGER,
            blackbox => BLACKBOX,
        },
    )?)
}

fn rules(plan: &Plan) -> Result<String, RenderError> {
    // A rate needs a few looks.
    let window = (4 * plan.monitoring.scrape_interval).max(30);
    Ok(template::fill(
        "roles/monitor/templates/rules.yml",
        context! {
            window => format!("{window}s"),
            domain => &*plan.domain,
            appliances => plan.appliances.len(),
            // Its arbiter is one of a cluster.
            cluster => of_role(plan, Role::Db).len() + usize::from(plan.database.arbiter.is_some()),
            sumo => plan.monitoring.sumo.as_ref().map(|sumo| &sumo.url_file),
        },
    )?)
}

fn prometheus_arguments(plan: &Plan, server: &Server) -> String {
    // It takes one address only: all of them if somebody may ask, and then the firewall says who.
    let listen = match is_reached(plan, server, ports::PROMETHEUS) {
        true => "",
        false => "127.0.0.1",
    };
    format!(
        "ARGS=\"--web.listen-address={listen}:{} \
         --storage.tsdb.retention.time={}d --storage.tsdb.retention.size=256MB\"\n",
        ports::PROMETHEUS,
        plan.monitoring.retention,
    )
}

/// A URL that alerts are posted to, or a password for mail, is nobody else's business.
fn told(plan: &Plan, text: String) -> HostFile {
    let monitoring = &plan.monitoring;
    let file = match monitoring.webhook.is_some() || monitoring.email.is_some() {
        true => secret,
        false => public,
    };
    file("/etc/ravelin/alertmanager.yml", text)
}

/// Texts are quoted as JSON does it, which YAML understands.
#[derive(Serialize)]
struct Email {
    to: String,
    from: String,
    smarthost: String,
    user: Option<String>,
    password: Option<String>,
    ca: Option<&'static str>,
}

fn email(plan: &Plan, server: &Server, material: &Material) -> Result<Option<Email>, RenderError> {
    let Some(email) = &plan.monitoring.email else {
        return Ok(None);
    };
    let mail = needed(
        server,
        "what its mail server asks for",
        material.mail.as_ref(),
    )?;
    let quoted = |text: &str| serde_json::json!(text).to_string();
    Ok(Some(Email {
        to: quoted(&email.to.join(", ")),
        from: quoted(&email.from),
        smarthost: quoted(&format!("{}:{}", email.server, email.port)),
        user: email.user.as_deref().map(quoted),
        password: mail.password.as_deref().map(quoted),
        ca: mail.ca.is_some().then_some(MAIL_CA),
    }))
}

fn alertmanager(plan: &Plan, server: &Server, material: &Material) -> Result<String, RenderError> {
    Ok(template::fill(
        "roles/monitor/templates/alertmanager.yml",
        context! {
            wait => plan.monitoring.scrape_interval.min(30),
            webhook => plan.monitoring.webhook.clone(),
            name => &*server.name,
            email => Value::from(Serde(email(plan, server, material)?)),
        },
    )?)
}

fn alertmanager_arguments() -> String {
    format!(
        "ARGS=\"--config.file=/run/credentials/prometheus-alertmanager.service/alertmanager.yml \
         --storage.path=/var/lib/prometheus/alertmanager --web.listen-address=127.0.0.1:{ALERTMANAGER} \
         --cluster.listen-address=\"\n"
    )
}

fn blackbox_arguments() -> String {
    format!(
        "ARGS=\"--config.file=/etc/prometheus/blackbox.yml --web.listen-address=127.0.0.1:{BLACKBOX} --log.level=error\"\n"
    )
}

/// The page in the browser.
fn page(plan: &Plan, server: &Server) -> Result<String, RenderError> {
    // Whom the firewall lets in finds it; without a flow it is for the machine itself.
    let addresses = match is_reached(plan, server, ports::DASHBOARD) {
        true => sockets(server),
        false => vec!["127.0.0.1".to_owned()],
    };
    Ok(template::fill(
        "roles/monitor/templates/nginx.conf",
        context! {
            name => &*server.name,
            tls => TLS,
            addresses,
            port => ports::DASHBOARD,
            prometheus => ports::PROMETHEUS,
        },
    )?)
}

/// What the page knows of the site besides figures.
fn site(plan: &Plan) -> String {
    let servers = plan.servers.iter().map(|server| {
        serde_json::json!({ "name": server.name, "role": server.role, "network": server.network })
    });
    let appliances = plan.appliances.iter().map(|appliance| &appliance.name);
    let site = serde_json::json!({
        "name": plan.name,
        "domain": plan.domain,
        "interval": plan.monitoring.scrape_interval,
        "servers": servers.collect::<Vec<_>>(),
        "appliances": appliances.collect::<Vec<_>>(),
    });
    format!("{site:#}\n")
}

/// The environment of the program that reads everybody's logs.
fn agent(plan: &Plan) -> String {
    let appliances: Vec<&str> = plan
        .appliances
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    let mut lines = format!(
        "AGENT_LOGS=/var/log/rack\nAGENT_STATE=/var/lib/ravelin-agent\n\
         AGENT_TEXTFILE=/var/lib/prometheus/node-exporter/agent.prom\n\
         AGENT_DAYS={}\nAGENT_APPLIANCES=\"{}\"\n",
        plan.monitoring.logs,
        appliances.join(" "),
    );
    if let Some(sumo) = &plan.monitoring.sumo {
        lines += &format!(
            "AGENT_URL_FILE=/run/credentials/ravelin-agent.service/sumo.url\n\
             AGENT_AUTHORITIES=/etc/ssl/certs/ca-certificates.crt\nAGENT_CATEGORY=\"{}\"\n\
             AGENT_FIGURES=\"http://127.0.0.1:{}/federate?match[]={}\"\n",
            sumo.category,
            ports::PROMETHEUS,
            SHIPPED,
        );
    }
    lines
}

/// Whether a flow of the plan leads to this port of the server.
fn is_reached(plan: &Plan, server: &Server, port: u16) -> bool {
    let here = |traffic: &Traffic| match traffic {
        Traffic::Any => true,
        Traffic::Tcp(ports) => {
            let ranges = &ports.destination;
            ranges.is_empty() || (ranges.iter()).any(|range| range.range().contains(&port))
        }
        Traffic::Udp(_)
        | Traffic::Ping
        | Traffic::Icmp(_)
        | Traffic::Icmp6(_)
        | Traffic::Number(_) => false,
    };
    (plan.flows.iter())
        .filter(|flow| flow.action == Action::Accept && here(&flow.traffic))
        .any(|flow| plan.addresses_in(&flow.to, server).next().is_some())
}

/// Where systemd takes the URL of the sink from.
const SUMO_URL: &str = "/etc/ravelin/sumo.url";
/// Who signed the certificate of the mail server, if it is nobody public.
const MAIL_CA: &str = "/etc/ravelin/mail-ca.pem";
/// On the machine itself only.
const ALERTMANAGER: u16 = 9093;
const BLACKBOX: u16 = 9115;
/// The figures that a central sink gets, percent-encoded: what alerts and the page are made of.
const SHIPPED: &str = "%7B__name__%3D~%22(site%7Cserver%7Cappliance):.*%7Cup%7CALERTS%7Cravelin_.*%7Cprobe_.*%7Cnginx_.*%7Cmysql_up%22%7D";

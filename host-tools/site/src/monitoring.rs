//! `[monitoring]`: how closely the monitor looks, how long it remembers, and whom it tells.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use policy::Transport;
use toml::de::DeValue;

use crate::{
    error::Problem,
    file::SiteFile,
    flow,
    nat::FREE,
    nginx::Beside,
    plan::{
        Email, Flow, Monitoring, Nat, Network, Party, Plan, Port, PortRange, Role, Service, Sumo,
        Traffic, ports,
    },
    read::{At, Domain, Table, Value, Wrong, text},
    service_file::part,
    value::milliseconds,
};

/// The section as written; what is absent has a default.
#[derive(Default)]
pub(crate) struct Entry {
    scrape_interval: Option<At<Seconds>>,
    retention: Option<At<Days>>,
    logs: Option<At<Days>>,
    resolvers: Vec<At<Ipv4Addr>>,
    webhook: Option<At<Url>>,
    email: Option<EmailEntry>,
    sumo: Option<SumoEntry>,
}

struct EmailEntry {
    to: Vec<At<Mailbox>>,
    from: At<Mailbox>,
    server: At<MailServer>,
    user: Option<At<String>>,
    password_file: Option<At<Beside>>,
    ca: Option<At<Beside>>,
}

struct SumoEntry {
    url_file: At<String>,
    category: Option<At<String>>,
}

pub(crate) const KEYS: [&str; 6] = [
    "scrape_interval",
    "retention",
    "logs",
    "resolvers",
    "alerts",
    "sumo",
];
pub(crate) const ALERTS: [&str; 2] = ["webhook", "email"];
pub(crate) const EMAIL: [&str; 6] = ["to", "from", "server", "user", "password_file", "ca"];
pub(crate) const SUMO: [&str; 2] = ["url_file", "category"];

/// Reads the section.
pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Entry {
    let (webhook, email) = part(table, "alerts", &ALERTS, alerts, problems)
        .flatten()
        .unwrap_or_default();
    let sumo = part(table, "sumo", &SUMO, sumo, problems);
    Entry {
        scrape_interval: table.optional("scrape_interval", problems).flatten(),
        retention: table.optional("retention", problems).flatten(),
        logs: table.optional("logs", problems).flatten(),
        resolvers: table.list("resolvers", problems).unwrap_or_default(),
        webhook,
        email,
        sumo: sumo.flatten(),
    }
}

type Alerts = (Option<At<Url>>, Option<EmailEntry>);

fn alerts(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Alerts> {
    if !ALERTS.iter().any(|key| table.has(key)) {
        problems.push(
            Problem::new("site::missing_key", format!("{} tells nobody", table.title))
                .at(table.place.clone(), "neither `webhook` nor `email`")
                .help("add one of them, or remove `alerts`"),
        );
    }
    let webhook = table.optional("webhook", problems);
    let email = part(table, "email", &EMAIL, email, problems);
    Some((webhook?, email?))
}

fn email(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<EmailEntry> {
    let to = table.required_list("to", problems);
    let from = table.required("from", problems);
    let server = table.required("server", problems);
    let user = table.optional("user", problems);
    let password_file = table.optional("password_file", problems);
    let ca = table.optional("ca", problems);
    Some(EmailEntry {
        to: to?,
        from: from?,
        server: server?,
        user: user?,
        password_file: password_file?,
        ca: ca?,
    })
}

fn sumo(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<SumoEntry> {
    let url_file = table.required("url_file", problems);
    let category = table.optional("category", problems);
    Some(SumoEntry {
        url_file: url_file?,
        category: category?,
    })
}

/// Reports names that nobody could look up.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    let entry = &file.monitoring;
    let login = (entry.email.as_ref()).map(|email| (&email.user, &email.password_file));
    if let Some((Some(user), None)) = login {
        problems.push(
            Problem::new("site::missing_key", "a user without a password")
                .at(user.span(), "the mail server will ask for it")
                .help(
                    "add `password_file`: a file beside the site file, for you alone (chmod 600)",
                ),
        );
    }
    if let Some((None, Some(file))) = login {
        problems.push(
            Problem::new("site::missing_key", "a password without a user")
                .at(file.span(), "whose is it?")
                .help("add `user`, or remove `password_file`"),
        );
    }
    if !entry.resolvers.is_empty() {
        return;
    }
    let webhook = (entry.webhook.as_ref())
        .filter(|url| matches!(url.get_ref().host, Host::Name))
        .map(At::span);
    let sumo = entry.sumo.as_ref().map(|sumo| sumo.url_file.span());
    let mail = (entry.email.as_ref())
        .map(|email| &email.server)
        .filter(|server| matches!(server.get_ref().host, Host::Name))
        .map(At::span);
    let Some(place) = webhook.or(mail).or(sumo) else {
        return;
    };
    problems.push(
        Problem::new("site::no_resolvers", "[monitoring] lacks `resolvers`")
            .at(place, "the monitor must look up the name of this")
            .help("add resolvers = [\"…\"] to [monitoring]: the addresses of your provider's name servers"),
    );
}

/// The settings, complete.
pub(crate) fn settings(file: &SiteFile) -> Monitoring {
    let entry = &file.monitoring;
    Monitoring {
        scrape_interval: entry
            .scrape_interval
            .as_ref()
            .map_or(15, |seconds| seconds.get_ref().0),
        retention: entry.retention.as_ref().map_or(15, |days| days.get_ref().0),
        logs: entry.logs.as_ref().map_or(14, |days| days.get_ref().0),
        resolvers: entry
            .resolvers
            .iter()
            .map(|address| *address.get_ref())
            .collect(),
        webhook: entry.webhook.as_ref().map(|url| url.get_ref().text.clone()),
        email: entry.email.as_ref().map(|email| Email {
            to: (email.to.iter())
                .map(|mailbox| mailbox.get_ref().0.clone())
                .collect(),
            from: email.from.get_ref().0.clone(),
            server: email.server.get_ref().text.clone(),
            port: email.server.get_ref().port,
            user: email.user.as_ref().map(|user| user.get_ref().clone()),
            password_file: (email.password_file.as_ref()).map(|file| file.get_ref().0.clone()),
            ca: email.ca.as_ref().map(|file| file.get_ref().0.clone()),
        }),
        sumo: entry.sumo.as_ref().map(|sumo| Sumo {
            url_file: sumo.url_file.get_ref().clone(),
            category: match &sumo.category {
                Some(category) => category.get_ref().clone(),
                None => file.name.clone().unwrap_or_default(),
            },
        }),
    }
}

/// What the monitor asks of others, and others tell it.
pub(crate) fn flows(file: &SiteFile, services: &[Service]) -> Vec<Flow> {
    let role = Party::Role;
    let monitor = || role(Role::Monitor);
    let tcp = |name: &str, from, to, port, why| {
        flow::plain(name.to_owned(), from, to, Traffic::tcp(port), why)
    };
    let udp = |name: &str, from, to, port, why| {
        flow::plain(
            name.to_owned(),
            from,
            to,
            Traffic::to(Transport::Udp, PortRange::one(port)),
            why,
        )
    };
    let figures = "the monitor reads the figures of what runs there";
    let mut flows = vec![
        tcp(
            "monitor-nodes",
            monitor(),
            Party::Servers,
            ports::NODE_EXPORTER,
            "the monitor watches every server",
        ),
        tcp(
            "monitor-haproxy",
            monitor(),
            role(Role::Haproxy),
            ports::HAPROXY_METRICS,
            figures,
        ),
        tcp(
            "monitor-nginx",
            monitor(),
            role(Role::Nginx),
            ports::NGINX_EXPORTER,
            figures,
        ),
        tcp(
            "monitor-db",
            monitor(),
            role(Role::Db),
            ports::MYSQL_EXPORTER,
            figures,
        ),
        tcp(
            "servers-logs",
            Party::Servers,
            monitor(),
            ports::LOGS,
            "the monitor keeps everybody's logs",
        ),
    ];
    flows.push(flow::plain(
        "monitor-appliances".to_owned(),
        monitor(),
        Party::Appliances,
        Traffic::Ping,
        "the monitor sees whether an appliance is there",
    ));
    // It asks as users do, through the virtual addresses.
    let why = "the monitor asks as users do";
    for service in services.iter().filter(|service| probed(service)) {
        let address = Party::Address(IpNet::from(IpAddr::V4(service.address)));
        flows.push(tcp("monitor-site", monitor(), address, service.port, why));
        flows.push(tcp(
            "monitor-site",
            monitor(),
            role(Role::Haproxy),
            service.server_port,
            why,
        ));
    }
    let entry = &file.monitoring;
    for resolver in &entry.resolvers {
        let to = || Party::Address(IpNet::from(IpAddr::V4(*resolver.get_ref())));
        let why = "the monitor looks up whom it tells";
        flows.push(udp("monitor-names", monitor(), to(), ports::DNS, why));
        flows.push(tcp("monitor-names", monitor(), to(), ports::DNS, why));
    }
    let webhook = (entry.webhook.as_ref()).map(|url| (&url.get_ref().host, url.get_ref().port));
    let mail = (entry.email.as_ref()).map(|email| email.server.get_ref());
    let mail = mail.map(|server| (&server.host, server.port));
    for (name, told) in [("monitor-alerts", webhook), ("monitor-mail", mail)] {
        let Some((host, port)) = told else { continue };
        let to = match host {
            Host::Name => Some(Party::Internet),
            Host::Address(address) if address.is_loopback() => None,
            Host::Address(address) => Some(Party::Address(IpNet::from(IpAddr::V4(*address)))),
        };
        let why = "the monitor tells of alerts";
        flows.extend(to.map(|to| tcp(name, monitor(), to, port, why)));
    }
    if entry.sumo.is_some() {
        let why = "the monitor ships logs and figures";
        flows.push(tcp(
            "monitor-sumo",
            monitor(),
            Party::Internet,
            ports::HTTPS,
            why,
        ));
    }
    flows
}

/// Whether the monitor asks this service as users do.
pub(crate) fn probed(service: &Service) -> bool {
    service.name == "https"
}

/// Hides the monitors' addresses where they reach outside, if the file does not.
pub(crate) fn translation(plan: &Plan) -> Option<Nat> {
    let (inside, _) = plan.inside();
    let leaves = |flow: &Flow| match &flow.to {
        Party::Internet => true,
        Party::Address(IpNet::V4(prefix)) => {
            let virtual_address = |network: &Network| {
                network
                    .virtual_addresses()
                    .any(|a| a == IpAddr::V4(prefix.addr()))
            };
            !inside.iter().any(|net| net.contains(prefix))
                && !plan.networks.iter().any(virtual_address)
        }
        Party::Address(IpNet::V6(_))
        | Party::Servers
        | Party::Appliances
        | Party::Role(_)
        | Party::Server(_)
        | Party::Set(_) => false,
    };
    let ours = |flow: &&Flow| {
        NAMES_OUTSIDE.contains(&flow.name.as_str()) && flow.from == Party::Role(Role::Monitor)
    };
    let wan = plan
        .networks
        .iter()
        .find(|network| network.port == Port::Wan)?;
    let hidden = |monitor: &Ipv4Net| {
        plan.nat.iter().any(|nat| match nat {
            Nat::Masquerade {
                sources, network, ..
            } => *network == wan.name && sources.iter().any(|source| source.contains(monitor)),
            Nat::Forward { .. } | Nat::Prefix6 { .. } => false,
        })
    };
    let monitors = plan.servers_of(Role::Monitor);
    let monitors = monitors.map(|server| Ipv4Net::from(server.address));
    let sources: Vec<Ipv4Net> = monitors.filter(|monitor| !hidden(monitor)).collect();
    if sources.is_empty() {
        return None;
    }
    plan.flows
        .iter()
        .filter(ours)
        .any(leaves)
        .then(|| Nat::Masquerade {
            name: "monitor-out".to_owned(),
            sources,
            network: wan.name.clone(),
            ports: FREE,
        })
}

/// Names of all flows that this section may ask for.
pub(crate) const NAMES: [&str; 11] = [
    "monitor-appliances",
    "monitor-nodes",
    "monitor-haproxy",
    "monitor-nginx",
    "monitor-db",
    "servers-logs",
    "monitor-site",
    "monitor-names",
    "monitor-alerts",
    "monitor-mail",
    "monitor-sumo",
];
const NAMES_OUTSIDE: [&str; 4] = [
    "monitor-names",
    "monitor-alerts",
    "monitor-mail",
    "monitor-sumo",
];

/// Seconds between two looks.
struct Seconds(u16);

impl Value for Seconds {
    const WANTED: &'static str = "a time from \"1s\" to \"60s\" in whole seconds";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let ms = milliseconds(text(value)?)?;
        match u16::try_from(ms / 1000) {
            Ok(seconds) if (1..=60).contains(&seconds) && ms % 1000 == 0 => Ok(Self(seconds)),
            _ => Err(Wrong::Content("not 1 to 60 whole seconds".to_owned())),
        }
    }
}

/// How long something is kept.
struct Days(u16);

impl Value for Days {
    const WANTED: &'static str = "a number of days from \"1d\" to \"400d\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let days = text(value)?
            .strip_suffix('d')
            .and_then(|days| days.parse().ok());
        match days {
            Some(days) if (1..=400).contains(&days) => Ok(Self(days)),
            _ => Err(Wrong::Content("not 1 to 400 days".to_owned())),
        }
    }
}

/// An e-mail address.
struct Mailbox(String);

impl Value for Mailbox {
    const WANTED: &'static str = "an e-mail address such as \"ops@example.com\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value)?;
        let good = |c: char| c.is_ascii_alphanumeric() || ".!#$%&*+-/=?^_`|~".contains(c);
        match text.split_once('@') {
            Some((user, domain)) if !user.is_empty() && user.chars().all(good) => {
                Domain::read(&DeValue::String(domain.into()))?;
                Ok(Self(text.to_owned()))
            }
            _ => Err(Wrong::Content("no e-mail address".to_owned())),
        }
    }
}

/// Who takes our mail.
struct MailServer {
    text: String,
    host: Host,
    port: u16,
}

impl Value for MailServer {
    const WANTED: &'static str =
        "a mail server's name or IPv4 address, and its port, such as \"smtp.example.com:587\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value)?;
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, port.parse().unwrap_or(0)),
            None => (text, ports::SUBMISSION),
        };
        if port == 0 {
            return Err(Wrong::Content(
                "a port is a number from 1 to 65535".to_owned(),
            ));
        }
        let host = match name.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => {
                Domain::read(&DeValue::String(name.into()))?;
                Host::Name
            }
        };
        Ok(Self {
            text: name.to_owned(),
            host,
            port,
        })
    }
}

/// Where alerts are posted.
struct Url {
    text: String,
    host: Host,
    port: u16,
}

enum Host {
    Name,
    Address(Ipv4Addr),
}

impl Value for Url {
    const WANTED: &'static str =
        "a URL such as \"https://alerts.example.com/hook\", or with http:// and an IPv4 address";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let wrong = |why: &str| Err(Wrong::Content(why.to_owned()));
        let text = text(value)?;
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            (None, None) => return wrong("neither https:// nor http://"),
        };
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"'\\{}".contains(&byte))
        {
            return wrong("a character that no URL has");
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => match port.parse() {
                Ok(port) if port > 0 => (host, port),
                _ => return wrong("a port is a number from 1 to 65535"),
            },
            None => (authority, if secure { ports::HTTPS } else { ports::HTTP }),
        };
        let host = match host.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => {
                Domain::read(&DeValue::String(host.into()))?;
                Host::Name
            }
        };
        if !secure && matches!(host, Host::Name) {
            return wrong("alerts would cross the Internet for everybody to read");
        }
        Ok(Self {
            text: text.to_owned(),
            host,
            port,
        })
    }
}

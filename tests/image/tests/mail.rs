//! Alerts are mailed: Debian's own Alertmanager, out of the monitor's image and with what is rendered for it, tells a real
//! mail server on this machine, by TLS and with its password, and nobody who cannot show a certificate. Needs root.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn alerts_are_mailed_over_tls_only() {
    let state = tempfile::tempdir().expect("a directory");
    let [good, other] = ["good", "other"].map(|name| {
        let own = state.path().join(name);
        fs::create_dir(&own).expect("made");
        certificate(&own);
        own
    });
    fs::copy(good.join("certificate.pem"), state.path().join("ca.pem")).expect("copied");
    image_test::secret(&state.path().join("smtp.password"), PASSWORD);

    let delivered = mails(state.path(), &[&good]);
    assert_eq!(delivered.len(), 1, "{delivered:?}");
    for text in [
        "mon1@foobar.com",
        "ops@foobar.com, night@foobar.com",
        "firing: web1 does not answer the monitor (ServerDown",
        "login monitor by TLS",
    ] {
        assert!(delivered[0].contains(text), "{text}: {}", delivered[0]);
    }
    // Of another authority; and without TLS.
    assert_eq!(mails(state.path(), &[&other]), [""; 0]);
    assert_eq!(mails(state.path(), &[]), [""; 0]);
}

/// What a mail server with this certificate, or with none, is told of an alert. Of nothing, only after Alertmanager has said
/// that it could not.
fn mails(site: &Path, certificate: &[&Path]) -> Vec<String> {
    let [mail, web] = [0; 2].map(|_| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.local_addr().expect("it has one").port()
    });
    let plan = image_test::example_with(&format!(
        "[monitoring]\nscrape_interval = \"1s\"\n[monitoring.alerts.email]\nto = [\"ops@foobar.com\", \"night@foobar.com\"]\nfrom = \"mon1@foobar.com\"\n\
         server = \"127.0.0.1:{mail}\"\nuser = \"monitor\"\npassword_file = \"smtp.password\"\nca = \"ca.pem\"\n"
    ));
    let state = site.join(".ravelin");
    let images = image_test::build(&plan, &state, Some(&["mon1"]), &|_| ()).expect("built");
    let config = (images[0].host_files.iter())
        .find(|file| file.path == "/etc/ravelin/alertmanager.yml")
        .expect("rendered");
    assert_eq!(config.mode, 0o600);
    let text = String::from_utf8(config.bytes.clone()).expect("text");
    let path = site.join("alertmanager.yml");
    let text = text.replace("/etc/ravelin/mail-ca.pem", "/mnt/ca.pem");
    fs::write(&path, text).expect("written");

    let mut server = Command::new("setpriv");
    server.args([
        "--pdeathsig",
        "KILL",
        "--",
        "/usr/bin/python3",
        "-u",
        "-c",
        SERVER,
    ]);
    server.args([&mail.to_string(), PASSWORD]);
    let server = Program::start(server.args(certificate), &site.join("mails"));
    server.wait_for("listening");
    // In the image's root, with our files in `/mnt`; it sees nothing else of this machine but the network.
    let mut alertmanager = Command::new("setpriv");
    alertmanager
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--mount",
            "sh",
            "-c",
            IN_ROOT,
            "sh",
        ])
        .args([site, &images[0].root_tree])
        .args([
            "/usr/bin/prometheus-alertmanager",
            "--config.file=/mnt/alertmanager.yml",
        ])
        .args(["--storage.path=/mnt/data", "--cluster.listen-address="])
        .arg(format!("--web.listen-address=127.0.0.1:{web}"));
    let alertmanager = Program::start(&mut alertmanager, &site.join("alertmanager.log"));
    alertmanager.wait_for("Listening on");
    let alert = r#"[{"labels": {"alertname": "ServerDown", "server": "web1"},
        "annotations": {"summary": "web1 does not answer the monitor"}}]"#;
    let posted = Command::new("curl")
        .args([
            "--silent",
            "--fail",
            "--header",
            "Content-Type: application/json",
        ])
        .args([
            "--data",
            alert,
            &format!("http://127.0.0.1:{web}/api/v2/alerts"),
        ])
        .status();
    assert!(posted.expect("curl runs").success());
    if certificate.is_empty() || certificate[0].ends_with("other") {
        alertmanager.wait_for("Notify attempt failed");
    } else {
        server.wait_for("mail ");
    }
    let told = fs::read_to_string(&server.log).expect("readable");
    let mails = told.lines().filter_map(|line| line.strip_prefix("mail "));
    mails.map(str::to_owned).collect()
}

/// A certificate for the loopback that signs itself.
fn certificate(directory: &Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args([
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=mail",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(directory)
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl runs").success());
}

/// A program that ends with this value, and what it says.
struct Program {
    process: Child,
    log: std::path::PathBuf,
}

impl Program {
    fn start(command: &mut Command, log: &Path) -> Self {
        let file = fs::File::create(log).expect("a file");
        let both = file.try_clone().expect("a file");
        let process = command.stdout(file).stderr(both).spawn();
        Self {
            process: process.expect("it starts"),
            log: log.to_owned(),
        }
    }

    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let log = fs::File::open(&self.log).expect("readable");
            let mut lines = BufReader::new(log).lines().map_while(Result::ok);
            if lines.any(|line| line.contains(text)) {
                return;
            }
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            assert!(Instant::now() < deadline, "{text}: {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const IN_ROOT: &str = "mount --bind \"$1\" \"$2/mnt\" && shift && exec chroot \"$@\"";
const PASSWORD: &str = "p: \"ass\" # {word}";
/// Says who logged in, and each mail in a line. (Its LOGIN has other words than Alertmanager expects.)
const SERVER: &str = r#"
import os, signal, ssl, sys
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
port, password, *certificate = sys.argv[1:]
tls = None
if certificate:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*(os.path.join(certificate[0], name) for name in ("certificate.pem", "key.pem")))

class Mails:
    async def handle_DATA(self, server, session, envelope):
        login = f"login {session.auth_data.login.decode()} by TLS" if session.auth_data and session.ssl else "nobody"
        print("mail", login, envelope.rcpt_tos, repr(envelope.content.decode()), flush=True)
        return "250 taken"

def who(server, session, envelope, mechanism, data):
    return AuthResult(success=data.password.decode() == password, auth_data=data)

Controller(Mails(), hostname="127.0.0.1", port=int(port), tls_context=tls, require_starttls=bool(tls),
    auth_required=bool(tls), authenticator=who, auth_exclude_mechanism=["LOGIN"]).start()
print("listening", flush=True)
signal.pause()
"#;

//! Checks over HTTPS on the emulated boards: a server with a good certificate is healthy, one with another's is not, and the
//! board forwards meanwhile. A server that takes all memory there is fails its check, and nothing else.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::sync::Arc;

use authority::Authority;
use policy::{Anchor, CheckKind, Config, Text, Trust};
use qemu::frames::{self, Frame};
use qemu::web::Web;
use qemu::{Emulated, Neighbours, mac_of, policy_of, shared};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use smoltcp::wire::TcpControl;

const BOARDS: [&str; 2] = ["mps2-an500", "zynq7000"];
const UPLINK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const USER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);
const LB1: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 11);
const NAME: &str = "www.example.org";
const NOVEMBER_2026: u64 = 1_795_000_000;

#[test]
fn servers_are_judged_by_their_certificate_while_packets_pass() {
    for board in BOARDS {
        let (ours, other) = (Authority::new(), Authority::new());
        let (mut config, rules) = policy_of(board);
        verify(&mut config, ours.anchor());
        let blob = classifier::blob(&config, &rules, policy::MAX_BLOB).expect("a good policy");
        let mut emulated = Emulated::start(board, board, &blob);
        let site = Neighbours::new(&emulated, &config).without(LB1);
        let (wan, edge) = (site.leg("wan"), site.leg("edge"));
        let gateway = shared(&config, edge);
        let wan_vrid = config.routers[0].vrid;
        let web = RefCell::new(Web::new(LB1, gateway, server(&ours, 0)));
        let serve = |frame: Option<&Frame>| {
            let mut web = web.borrow_mut();
            if let Some(frame) = frame {
                let untagged = Frame {
                    vlan: None,
                    ..frame.clone()
                };
                web.receive(untagged.bytes());
            }
            for frame in web.poll() {
                let frame = Frame {
                    vlan: edge.vlan,
                    ..Frame::parse(&frame)
                };
                site.send(edge, &frame);
            }
        };
        let logged = |text: &str| emulated.log().contains(text).then_some(());
        site.until(
            "a healthy server",
            || serve(None),
            |name, frame| {
                serve((name == "edge").then_some(frame));
                logged(&format!("server {LB1}:443 is healthy"))?;
                logged(&format!("server {LB1}:80 is healthy"))
            },
        );

        // A user's packet that comes while the board works on the server's part of the handshake is forwarded before the
        // board's own part is done. One proof of many tries is enough: the test's machine may be busy.
        let (mut user_port, mut sent) = (40_000, None);
        let passed = Cell::new(false);
        site.until(
            "a packet that passes during a handshake",
            || serve(None),
            |name, frame| {
                let working = web.borrow().awaits_the_client();
                if let (Some((USER, LB1, segment)), Some(port)) = (frame.tcp(), sent) {
                    passed.set(passed.get() || (working && segment.src_port == port));
                }
                serve((name == "edge").then_some(frame));
                let working = web.borrow().awaits_the_client();
                match (working, sent) {
                    (true, None) => {
                        user_port += 1;
                        sent = Some(user_port);
                        let user = (mac_of(UPLINK), USER, user_port);
                        let vrid = wan_vrid;
                        let service = ([0, 0, 0x5e, 0, 1, vrid], PUBLIC, 80);
                        let syn = frames::tcp(wan.vlan, user, service, TcpControl::Syn, None);
                        site.send(wan, &syn);
                    }
                    (false, Some(_)) => sent = None,
                    (true, Some(_)) | (false, None) => {}
                }
                passed.get().then_some(())
            },
        );

        // One that is not good, one that takes more memory than there is, and the good one again.
        let good = format!("server {LB1}:443 is healthy");
        for (config, expected) in [
            (
                server(&other, 0),
                "the certificate is of an unknown authority",
            ),
            (server(&ours, 0), good.as_str()),
            (server(&ours, 3000), "not enough memory for tls"),
            (server(&ours, 0), good.as_str()),
        ] {
            web.borrow_mut().set_config(config);
            let before = emulated.log().len();
            site.until(
                expected,
                || serve(None),
                |name, frame| {
                    serve((name == "edge").then_some(frame));
                    let new = emulated.log().split_off(before);
                    let of_443 = |line: &str| line.contains(":443") && line.contains(expected);
                    new.lines().any(of_443).then_some(())
                },
            );
        }
        let log = emulated.log();
        assert!(!log.contains("panic"), "{board}:\n{log}");
        let starts = log.matches("configuration of gw1").count();
        assert_eq!(starts, 1, "{board} began anew:\n{log}");
        // The start, a handshake, and a check that was given up were the deepest; a quarter stays for what was not met here.
        let (used, budget) = (emulated.stack_used(), emulated.stack_budget());
        assert!(used <= budget / 4 * 3, "{board}: {used} of {budget} bytes");
        println!("{board}: {used} of {budget} bytes of stack were used");
    }
}

/// Checks the balancers' HTTPS with this authority. The emulator's pace is anything.
fn verify(config: &mut Config, anchor: Anchor) {
    config.anchors = [anchor].into_iter().collect();
    config.made = NOVEMBER_2026;
    for service in &mut config.services {
        service.servers.truncate(1);
        service.quorum = 1;
        service.check.interval_ms = 300;
        service.check.timeout_ms = 30_000;
        if service.port == 443 {
            service.check.kind = CheckKind::Https {
                host: Text::try_from(NAME).expect("short"),
                path: Text::try_from("/").expect("short"),
                lowest: 200,
                highest: 299,
                trust: Trust::Anchor(0),
            };
        }
    }
}

/// What a server of the checks' name needs; it shows so many empty certificates behind its own.
fn server(authority: &Authority, empty: usize) -> Arc<ServerConfig> {
    let (certificate, key) = authority.issue(NAME, &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = (provider.key_provider.load_private_key(key)).expect("a key");
    let mut chain = vec![certificate.der().clone()];
    chain.resize(1 + empty, CertificateDer::from(Vec::new()));
    let shown = Arc::new(CertifiedKey::new(chain, key));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    Arc::new(config)
}

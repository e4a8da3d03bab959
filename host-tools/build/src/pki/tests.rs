//! A site's certificates over the years, and under damage.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::inspect::{first, inspect, is_signed_by};
use super::leaf::RENEW_BEFORE;
use super::*;

fn plan() -> Plan {
    let text = include_str!("../../../../examples/foobar/site.toml");
    let boards = site::Boards::new([("zynq7000", 2)]);
    site::parse("site.toml", text, &boards).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn now() -> SystemTime {
    SystemTime::now()
}

/// Every file below a directory, with its content.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.append(&mut snapshot(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn changed(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<String> {
    (after
        .iter()
        .filter(|(path, content)| before.get(*path) != Some(*content)))
    .map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned())
    .collect()
}

#[test]
fn what_was_made_once_is_used_again() {
    let state = tempfile::tempdir().unwrap();
    let first = open(state.path(), &plan()).unwrap();
    let made = snapshot(state.path());
    let second = open(state.path(), &plan()).unwrap();
    assert!(made == snapshot(state.path()));
    assert_eq!(first.trusted, second.trusted);
    assert_eq!(first.database_password, second.database_password);
    assert_eq!(fs::read_to_string(first.ca_path()).unwrap(), first.trusted);
    // Two for each of the nine servers, one more for db1, db2 and mon1, the site's; two for each of six authorities; the root and
    // its key, what users trust, password, lock.
    assert_eq!(made.len(), 9 * 2 + 3 + 1 + 6 * 2 + 5);
}

#[test]
fn what_has_a_key_in_it_is_for_its_owner_alone() {
    let state = tempfile::tempdir().unwrap();
    open(state.path(), &plan()).unwrap();
    for (path, content) in snapshot(state.path()) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let text = String::from_utf8(content).unwrap();
        let public = text.contains("CERTIFICATE") && !text.contains("PRIVATE KEY");
        let expected = if public { 0o644 } else { 0o600 };
        assert_eq!(mode, expected, "{}", path.display());
    }
    let mode = fs::metadata(state.path().join("pki"))
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o700);
}

#[test]
fn a_new_domain_or_server_gets_its_own_certificate_and_the_rest_stays() {
    let state = tempfile::tempdir().unwrap();
    let mut plan = plan();
    open(state.path(), &plan).unwrap();
    let before = snapshot(state.path());
    plan.domain = "www.example.org".into();
    plan.servers[0].name = "lb9".into();
    open(state.path(), &plan).unwrap();
    // Their authorities may sign for them now; what peers trust is the same.
    assert_eq!(
        changed(&before, &snapshot(state.path())),
        [
            "lb9.client.pem",
            "lb9.server.pem",
            "site.pem",
            "haproxy.anchor.pem",
            "haproxy.pem",
            "site.anchor.pem",
            "site.pem"
        ]
    );
}

#[test]
fn what_expires_soon_is_replaced_without_the_root() {
    let state = tempfile::tempdir().unwrap();
    let plan = plan();
    let start = now();
    open_at(state.path(), &plan, start).unwrap();
    fs::rename(state.path().join("pki/root.key"), state.path().join("usb")).unwrap();
    let made = snapshot(state.path());
    let margin = RENEW_BEFORE + DAY;
    open_at(state.path(), &plan, start + LEAF_LIFE - margin).unwrap();
    assert!(
        made == snapshot(state.path()),
        "a month and a day is not soon"
    );
    open_at(state.path(), &plan, start + LEAF_LIFE - RENEW_BEFORE + DAY).unwrap();
    let renewed = snapshot(state.path());
    assert_eq!(
        changed(&made, &renewed).len(),
        22,
        "all leaves, and only leaves"
    );

    // Authorities last for years; then they are signed anew with the same key, for which the root is needed.
    let late = start + authority::TIER_LIFE - LEAF_LIFE + DAY;
    let Err(error) = open_at(state.path(), &plan, late) else {
        panic!("nobody signed for the authorities")
    };
    assert!(
        error
            .to_string()
            .contains("must be signed by the root: it expires soon"),
        "{error}"
    );
    fs::rename(state.path().join("usb"), state.path().join("pki/root.key")).unwrap();
    let old = fs::read_to_string(state.path().join("pki/tiers/nginx.anchor.pem")).unwrap();
    let new = open_at(state.path(), &plan, late).unwrap();
    let certificate = &new.servers["web1"][&Use::Server].certificate;
    inspect(Path::new("new leaf"), certificate, |leaf| {
        assert!(
            is_signed_by(leaf, &old),
            "whoever trusts the old anchor trusts the new leaf"
        )
    })
    .unwrap();
}

#[test]
fn without_the_root_nothing_new_is_signed_for_and_it_is_said_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    let mut plan = plan();
    open(state.path(), &plan).unwrap();
    fs::remove_file(state.path().join("pki/root.key")).unwrap();
    open(state.path(), &plan).unwrap();
    rotate(state.path(), &plan, &Rotation::default()).unwrap();
    plan.servers[2].name = "web9".into();
    let before = snapshot(state.path());
    let Err(error) = open(state.path(), &plan) else {
        panic!("an authority went beyond its names")
    };
    let text =
        "the authority of tier `nginx` must be signed by the root: it may not sign for web9 yet";
    assert_eq!(error.to_string(), text);
    assert!(error.help().unwrap().to_string().contains("pki/root.key"));
    assert!(before == snapshot(state.path()));
    let all = Rotation {
        authorities: true,
        ..Rotation::default()
    };
    assert!(rotate(state.path(), &self::plan(), &all).is_err());
}

#[test]
fn a_certificate_of_another_authority_is_replaced() {
    let [ours, theirs] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    open(ours.path(), &plan()).unwrap();
    open(theirs.path(), &plan()).unwrap();
    let stranger = theirs.path().join("pki/site.pem");
    fs::copy(&stranger, ours.path().join("pki/site.pem")).unwrap();
    let pki = open(ours.path(), &plan()).unwrap();
    let own = first(&pki.site.certificate).0;
    assert!(!fs::read_to_string(stranger).unwrap().contains(own));
}

#[test]
fn one_authority_for_everything_was_an_earlier_version() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join("pki");
    fs::create_dir(&directory).unwrap();
    fs::write(
        directory.join("ca.key"),
        KeyPair::generate().unwrap().serialize_pem(),
    )
    .unwrap();
    let old = "-----BEGIN CERTIFICATE-----\nold\n-----END CERTIFICATE-----\n";
    fs::write(directory.join("ca.pem"), old).unwrap();
    let Err(error) = open(state.path(), &plan()) else {
        panic!("an old authority cannot sign for others")
    };
    assert!(
        error.to_string().contains("of an earlier version"),
        "{error}"
    );
    assert!(list(state.path(), &plan()).is_err());
    let root = Rotation {
        root: true,
        ..Rotation::default()
    };
    let pki = rotate(state.path(), &plan(), &root).unwrap();
    assert!(pki.trusted.ends_with(old), "its users are told by hand");
    open(state.path(), &plan()).unwrap();
}

/// Every verifier that knows only the old, and every one that knows only the new, takes what is shown during the change.
#[test]
fn rotations_overlap() {
    let state = tempfile::tempdir().unwrap();
    let plan = plan();
    let check = |trust: &Pki, shown: &Pki| -> Result<(), rustls::Error> {
        handshake(&trust.trusted, &shown.site, "www.foobar.com")?;
        for server in &plan.servers {
            let (trusted, shown) = (
                &trust.tiers[&Tier::Servers(server.role)],
                &shown.servers[&server.name],
            );
            handshake(&trusted.anchors, &shown[&Use::Server], &server.name)?;
            handshake(&trusted.anchors, &shown[&Use::Server], server.role.name())?;
        }
        Ok(())
    };
    let old = open(state.path(), &plan).unwrap();
    check(&old, &old).unwrap();
    let turns = [
        Rotation::default(),
        Rotation {
            authorities: true,
            ..Rotation::default()
        },
        Rotation {
            root: true,
            ..Rotation::default()
        },
    ];
    let mut before = old;
    for turn in turns {
        let now = rotate(state.path(), &plan, &turn).unwrap();
        for (trust, shown) in [(&before, &now), (&now, &before), (&now, &now)] {
            check(trust, shown).unwrap_or_else(|error| panic!("{turn:?}: {error}"));
        }
        // Appliances know one anchor only: they come after the servers.
        for (trust, shown) in [(&before, &now), (&now, &now)] {
            handshake(trust.site_anchor(), &shown.site, "www.foobar.com").unwrap();
        }
        let overlaps = turn.authorities || turn.root;
        assert_eq!(is_overlapping(state.path(), &plan).unwrap(), overlaps);
        let after = retire(state.path(), &plan).unwrap();
        assert!(!is_overlapping(state.path(), &plan).unwrap());
        // Who was brought up to date during the overlap understands those who are after it, and the other way round.
        for (trust, shown) in [(&now, &after), (&after, &now)] {
            check(trust, shown).unwrap();
            handshake(trust.site_anchor(), &shown.site, "www.foobar.com").unwrap();
        }
        if overlaps {
            assert!(
                check(&after, &before).is_err(),
                "{turn:?}: the old one is still trusted"
            );
        }
        before = after;
    }
}

#[test]
fn only_what_is_named_gets_new_keys() {
    let state = tempfile::tempdir().unwrap();
    let plan = plan();
    open(state.path(), &plan).unwrap();
    let table = [
        (
            Rotation {
                names: ["web2".to_owned()].into(),
                ..Rotation::default()
            },
            &["web2.client.pem", "web2.server.pem"][..],
        ),
        (
            Rotation {
                names: ["www.foobar.com".to_owned()].into(),
                ..Rotation::default()
            },
            &["site.pem"],
        ),
        (
            Rotation {
                roles: [Role::App].into(),
                ..Rotation::default()
            },
            &[
                "app1.client.pem",
                "app1.server.pem",
                "app2.client.pem",
                "app2.server.pem",
            ],
        ),
        (
            Rotation {
                roles: [Role::Db].into(),
                authorities: true,
                ..Rotation::default()
            },
            &[
                "db1.client.pem",
                "db1.peer.pem",
                "db1.server.pem",
                "db2.client.pem",
                "db2.peer.pem",
                "db2.server.pem",
                "db.anchor.pem",
                "db.cross.pem",
                "db.pem",
            ],
        ),
    ];
    for (rotation, expected) in table {
        let before = snapshot(state.path());
        rotate(state.path(), &plan, &rotation).unwrap();
        assert_eq!(changed(&before, &snapshot(state.path())), expected);
    }
}

#[test]
fn damage_is_reported_and_nothing_is_made_anew_over_it() {
    let table = [
        ("root.key", "", "root.key is not what it should be"),
        (
            "root.pem",
            "garbage",
            "root.pem is not what it should be: it holds no certificate",
        ),
        (
            "tiers/app.pem",
            "garbage",
            "app.pem is not what it should be: it holds no private key",
        ),
        (
            "site.pem",
            "garbage",
            "site.pem is not what it should be: it holds no certificate",
        ),
        (
            "database.password",
            "'; --\n",
            "a password of letters and digits was expected",
        ),
    ];
    for (file, content, message) in table {
        let state = tempfile::tempdir().unwrap();
        open(state.path(), &plan()).unwrap();
        fs::write(state.path().join("pki").join(file), content).unwrap();
        let before = snapshot(state.path());
        let Err(error) = open(state.path(), &plan()) else {
            panic!("{file} went unnoticed")
        };
        assert!(error.to_string().contains(message), "{error}");
        assert!(before == snapshot(state.path()), "{file}");
    }
    let state = tempfile::tempdir().unwrap();
    open(state.path(), &plan()).unwrap();
    let other = KeyPair::generate().unwrap().serialize_pem();
    fs::write(state.path().join("pki/root.key"), other).unwrap();
    let Err(error) = open(state.path(), &plan()) else {
        panic!("a wrong key went unnoticed")
    };
    assert!(
        error
            .to_string()
            .contains("not the certificate of root.key"),
        "{error}"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("pki"), "a file in the way").unwrap();
    let Err(error) = open(state.path(), &plan()) else {
        panic!("a file is no directory")
    };
    assert!(error.to_string().starts_with("cannot create /"), "{error}");
    assert!(error.to_string().contains("pki/servers"), "{error}");
}

#[test]
fn servers_get_what_their_role_uses() {
    let state = tempfile::tempdir().unwrap();
    let plan = plan();
    let pki = open(state.path(), &plan).unwrap();
    let with = |has: &dyn Fn(&Material) -> bool| -> Vec<&str> {
        (plan
            .servers
            .iter()
            .filter(|server| has(&pki.material(server))))
        .map(|server| &*server.name)
        .collect()
    };
    assert_eq!(with(&|material| material.site.is_some()), ["lb1", "lb2"]);
    assert_eq!(
        with(&|material| material.database_password.is_some()),
        ["app1", "app2", "db1", "db2"]
    );
    assert_eq!(with(&|material| material.server.is_some()).len(), 9);
    assert_eq!(with(&|material| material.client.is_some()).len(), 9);
    assert_eq!(
        with(&|material| material.peer.is_some()),
        ["db1", "db2", "mon1"]
    );
}

#[test]
fn a_name_is_good_under_its_own_authority_only() {
    let state = tempfile::tempdir().unwrap();
    let pki = open(state.path(), &plan()).unwrap();
    let anchors = |role| &*pki.tiers[&Tier::Servers(role)].anchors;
    let server = |name: &str| &pki.servers[name][&Use::Server];
    handshake(&pki.trusted, &pki.site, "www.foobar.com").unwrap();
    handshake(pki.site_anchor(), &pki.site, "www.foobar.com").unwrap();
    handshake(&pki.trusted, server("web1"), "web1").unwrap();
    handshake(anchors(Role::Nginx), server("web1"), "web1").unwrap();
    handshake(anchors(Role::Nginx), server("web2"), "nginx").unwrap();
    let table = [
        (&*pki.trusted, &pki.site, "foobar.com", "not valid for name"),
        (&pki.trusted, &pki.site, "web1", "not valid for name"),
        (
            anchors(Role::Nginx),
            server("web1"),
            "web2",
            "not valid for name",
        ),
        (
            anchors(Role::Nginx),
            server("app1"),
            "app1",
            "UnknownIssuer",
        ),
        (
            anchors(Role::Nginx),
            &pki.site,
            "www.foobar.com",
            "UnknownIssuer",
        ),
        (
            anchors(Role::App),
            &pki.servers["app1"][&Use::Client],
            "app1",
            "client authentication",
        ),
    ];
    for (trust, identity, name, expected) in table {
        let error = handshake(trust, identity, name).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path(), &plan()).unwrap();
    handshake(&other.trusted, &pki.site, "www.foobar.com").unwrap_err();
}

/// The root limits whom an authority signs for: its key alone makes no other name.
#[test]
fn an_authority_cannot_sign_for_another_tier() {
    let state = tempfile::tempdir().unwrap();
    let pki = open(state.path(), &plan()).unwrap();
    let web = &pki.tiers[&Tier::Servers(Role::Nginx)];
    for (name, good) in [("web1", true), ("app1", false), ("www.foobar.com", false)] {
        let path = state.path().join(format!("{name}.pem"));
        let identity = leaf::open(&path, &[name], Use::Server, web, now()).unwrap();
        let result = handshake(&pki.trusted, &identity, name);
        assert_eq!(result.is_ok(), good, "{name}: {result:?}");
    }
}

/// A TLS handshake in memory; the error is the client's.
fn handshake(trusted: &str, identity: &Identity, name: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
    let chain = chain.collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn an_operators_own_certificate_is_looked_at_before_users_do() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join(".ravelin");
    let mut plan = plan();
    plan.certificate = Some(site::plan::SiteCertificate {
        certificate: "www.pem".into(),
        key: "www.key".into(),
    });
    let [pem, key] = ["www.pem", "www.key"].map(|name| directory.path().join(name));
    let pair = KeyPair::generate().unwrap();
    let certificate = |names: &[&str], days: u32| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_before = (now() - DAY * 100).into();
        params.not_after = (now() - DAY + DAY * days).into();
        params.self_signed(&pair).unwrap().pem()
    };
    let good = certificate(&["foobar.com", "www.foobar.com"], 90);
    let with = |certificate: &str, secret: &str, mode: u32| {
        fs::write(&pem, certificate).unwrap();
        fs::write(&key, secret).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        check(&state, &plan).map_err(|error| error.to_string())
    };
    let own = pair.serialize_pem();
    assert!(
        with(&good, &own, 0o600)
            .unwrap()
            .unwrap()
            .contains("holds one certificate")
    );
    let chain = format!("{good}{}", certificate(&["root"], 90));
    assert_eq!(with(&chain, &own, 0o600), Ok(None));
    let pki = open(&state, &plan).unwrap();
    assert_eq!(
        pki.material(&plan.servers[0]).site.unwrap().certificate,
        chain
    );
    assert_eq!(pki.ca_path(), pem);
    assert!(!state.join("pki/site.pem").exists(), "none is made");
    let wildcard = certificate(&["*.foobar.com"], 15);
    let warning = with(&wildcard, &own, 0o600).unwrap().unwrap();
    assert!(warning.contains("www.pem expires on 20"), "{warning}");
    let other = KeyPair::generate().unwrap().serialize_pem();
    let table = [
        (
            &*chain,
            &*other,
            0o600,
            "www.pem: it is not the certificate of www.key",
        ),
        (&chain, &own, 0o644, "www.key: others may read this secret"),
        (&chain, "", 0o600, "www.key: not a private key in PKCS #8"),
        ("", &own, 0o600, "www.pem: it holds no certificate"),
        (
            &certificate(&["*.com", "a.b"], 90),
            &own,
            0o600,
            "it is not for www.foobar.com but for *.com, a.b",
        ),
        (
            &certificate(&["www.foobar.com"], 0),
            &own,
            0o600,
            "it expired on 20",
        ),
    ];
    for (certificate, secret, mode, expected) in table {
        let error = with(certificate, secret, mode).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    fs::remove_file(&pem).unwrap();
    let error = check(&state, &plan).unwrap_err().to_string();
    assert!(error.contains("www.pem: cannot read it"), "{error}");
}

//! A site's certificates over the years, and under damage.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

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
    assert_eq!(first.ca, second.ca);
    assert_eq!(first.database_password, second.database_password);
    assert_eq!(fs::read_to_string(first.ca_path()).unwrap(), first.ca);
    // One for the site and each of the eight servers, authority, its key, password, lock.
    assert_eq!(made.len(), 13);
}

#[test]
fn only_the_certificate_of_the_authority_is_for_everyone() {
    let state = tempfile::tempdir().unwrap();
    let pki = open(state.path(), &plan()).unwrap();
    for path in snapshot(state.path()).keys() {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let expected = if *path == pki.ca_path() { 0o644 } else { 0o600 };
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
    assert_eq!(
        changed(&before, &snapshot(state.path())),
        ["lb9.pem", "site.pem"]
    );
}

#[test]
fn what_expires_soon_is_replaced_and_the_authority_keeps_its_key() {
    let state = tempfile::tempdir().unwrap();
    let plan = plan();
    let start = now();
    open_at(state.path(), &plan, start).unwrap();
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
        9,
        "the site and eight servers"
    );
    let late = start + CA_LIFE - RENEW_BEFORE + DAY;
    let old = open_at(state.path(), &plan, start + LEAF_LIFE).unwrap();
    let new = open_at(state.path(), &plan, late).unwrap();
    assert_ne!(old.ca, new.ca);
    let key = Path::new("pki").join(CA_KEY);
    assert_eq!(
        made.get(&state.path().join(&key)),
        snapshot(state.path()).get(&state.path().join(&key))
    );
    // Who trusts the old certificate of the authority still trusts what it signs now.
    inspect(Path::new("new leaf"), &new.site.certificate, |leaf| {
        assert!(is_signed_by(leaf, &old.ca))
    })
    .unwrap();
}

#[test]
fn a_certificate_of_another_authority_is_replaced() {
    let [ours, theirs] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    open(ours.path(), &plan()).unwrap();
    open(theirs.path(), &plan()).unwrap();
    let stranger = theirs.path().join("pki/site.pem");
    fs::copy(&stranger, ours.path().join("pki/site.pem")).unwrap();
    let pki = open(ours.path(), &plan()).unwrap();
    assert!(
        !fs::read_to_string(stranger)
            .unwrap()
            .contains(&pki.site.certificate)
    );
}

#[test]
fn damage_is_reported_and_nothing_is_made_anew_over_it() {
    let table = [
        ("ca.key", "", "ca.key is not what it should be"),
        (
            "ca.pem",
            "garbage",
            "ca.pem is not what it should be: it holds no certificate",
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
    fs::remove_file(state.path().join("pki/ca.key")).unwrap();
    let Err(error) = open(state.path(), &plan()) else {
        panic!("a lost key went unnoticed")
    };
    assert!(
        error
            .to_string()
            .contains("ca.pem is there, its key is not"),
        "{error}"
    );
    let other = KeyPair::generate().unwrap().serialize_pem();
    fs::write(state.path().join("pki/ca.key"), other).unwrap();
    let Err(error) = open(state.path(), &plan()) else {
        panic!("a wrong key went unnoticed")
    };
    assert!(
        error.to_string().contains("not the certificate of ca.key"),
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
        ["app1", "app2", "db1"]
    );
    assert_eq!(with(&|material| material.server.is_some()).len(), 8);
}

#[test]
fn a_client_that_trusts_the_authority_accepts_the_site_under_its_name_only() {
    let state = tempfile::tempdir().unwrap();
    let pki = open(state.path(), &plan()).unwrap();
    handshake(&pki.ca, &pki.site, "www.foobar.com").unwrap();
    handshake(&pki.ca, &pki.servers["web1"], "web1").unwrap();
    for (identity, name) in [
        (&pki.site, "foobar.com"),
        (&pki.site, "web1"),
        (&pki.servers["web1"], "web2"),
    ] {
        let error = handshake(&pki.ca, identity, name).unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path(), &plan()).unwrap();
    handshake(&other.ca, &pki.site, "www.foobar.com").unwrap_err();
}

/// A TLS handshake in memory; the error is the client's.
fn handshake(ca: &str, identity: &Identity, name: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
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

//! Authorities that appliances can verify with, and those that they cannot.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;
use crate::{Places, write_configuration};

fn plan(check: &str) -> Plan {
    let text = include_str!("../../../../examples/foobar/site.toml");
    let text = format!("{text}\n[services.https]\ncheck = {check}\n");
    let boards = site::Boards::new([("zynq7000", 2)]);
    site::parse("site.toml", &text, &boards).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn filled(plan: &Plan, state: &Path) -> Result<Config, String> {
    let mut config = render::appliance::config(plan, "gw1").unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    fill(&mut config, plan, state, now).map_err(|error| error.to_string())?;
    Ok(config)
}

#[test]
fn the_sites_own_authority_is_trusted_unless_another_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join(".ravelin");
    let plan = plan("{ kind = \"https\" }");
    let config = filled(&plan, &state).unwrap();
    assert_eq!(config.made, 1_795_000_000);
    let own = parse(&fs::read(state.join("pki/tiers/site.anchor.pem")).unwrap()).unwrap();
    assert_eq!(&config.anchors[..], &[own]);
    assert_eq!(config.validate(), Ok(()));
    assert_eq!(filled(&plan, &state), Ok(config), "the same again");
}

#[test]
fn nobody_is_asked_where_nobody_verifies() {
    let directory = tempfile::tempdir().unwrap();
    for check in ["{ kind = \"tcp\" }", "{ kind = \"https\", verify = false }"] {
        let config = filled(&plan(check), &directory.path().join(".ravelin")).unwrap();
        assert_eq!((config.anchors.len(), config.made), (0, 0), "{check}");
    }
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn files_of_authorities() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join(".ravelin");
    let path = directory.path().join("office.pem");
    let plan = plan("{ kind = \"https\", ca = \"office.pem\" }");
    let certificate = |algorithm, authority: bool| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::default();
        if authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.self_signed(&key).unwrap().pem()
    };
    let good = certificate(&rcgen::PKCS_ECDSA_P384_SHA384, true);
    let table = [
        (
            "P-256",
            certificate(&rcgen::PKCS_ECDSA_P256_SHA256, true),
            None,
        ),
        ("P-384", good.clone(), None),
        ("Ed25519", certificate(&rcgen::PKCS_ED25519, true), None),
        (
            "RSA",
            include_str!("rsa.pem").to_owned(),
            Some("its key is of another kind"),
        ),
        (
            "a server's",
            certificate(&rcgen::PKCS_ED25519, false),
            Some("it is not the certificate of an authority"),
        ),
        ("two", good.clone() + &good, Some("it holds 2 certificates")),
        ("none", String::new(), Some("it holds 0 certificates")),
    ];
    let missing = filled(&plan, &state).unwrap_err();
    assert!(missing.contains("office.pem: cannot read it"), "{missing}");
    for (name, text, problem) in table {
        fs::write(&path, text).unwrap();
        match (filled(&plan, &state), problem) {
            (Ok(config), None) => {
                assert_eq!(config.validate(), Ok(()), "{name}");
                assert!(!config.anchors[0].key.is_empty(), "{name}");
            }
            (Err(error), Some(problem)) => assert!(error.contains(problem), "{name}: {error}"),
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}

#[test]
fn time_alone_makes_no_other_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places {
        source: directory.path().to_owned(),
        cache: directory.path().to_owned(),
        state: directory.path().join(".ravelin"),
        lock: Default::default(),
    };
    let write = |check| write_configuration(&plan(check), &places, "gw1", policy::MAX_BLOB);
    let made = |path: &Path| policy::decode(&fs::read(path).unwrap()).unwrap().0.made;
    let (path, new) = write("{ kind = \"https\" }").unwrap();
    assert!(new);
    let first = made(&path);
    // As if it had been built a year ago.
    let text = fs::read(&path).unwrap();
    let (config, tables) = policy::decode(&text).unwrap();
    let config = Config {
        made: first - 31_536_000,
        ..config
    };
    let mut buffer = vec![0; policy::MAX_BLOB];
    let old = policy::encode(&config, tables, &mut buffer).unwrap();
    fs::write(&path, old).unwrap();
    assert!(!write("{ kind = \"https\" }").unwrap().1);
    assert_eq!(made(&path), first - 31_536_000);
    assert!(write("{ kind = \"https\", path = \"/health\" }").unwrap().1);
    assert!(made(&path) >= first);
}

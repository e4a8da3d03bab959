//! Secrets as files, good ones and others.

use std::fs::Permissions;

use super::*;

const HMAC: &str = "authentication = { kind = \"hmac\", keys = [{ id = 7, file = \"a\" }, { id = 3, file = \"b\" }] }";
const PASSWORD: &str = "version = 2\nauthentication = { kind = \"password\", file = \"a\" }";

fn plan(vrrp: &str) -> Plan {
    let text = include_str!("../../../../examples/foobar/site.toml");
    let second = "advertisement_interval = \"1s\"";
    let text = text.replace(
        "advertisement_interval = \"100ms\"",
        &format!("{vrrp}\n{second}"),
    );
    let boards = site::Boards::new([("zynq7000", 2)]);
    site::parse("site.toml", &text, &boards).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn filled(plan: &Plan, name: &str, folder: &Path) -> Result<Config, String> {
    let mut config = render::appliance::config(plan, name).unwrap();
    fill(&mut config, plan, &folder.join(".ravelin")).map_err(|error| error.to_string())?;
    assert_eq!(config.validate(), Ok(()));
    Ok(config)
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_pair_shares_keys_that_are_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan("");
    let pair = |name| {
        let config = filled(&plan, name, folder.path()).unwrap();
        config.availability.pair.unwrap()
    };
    let (a, b, again) = (pair("gw1"), pair("gw2"), pair("gw1"));
    assert_eq!((a.key, a.operator), (b.key, b.operator));
    assert_eq!(a, again);
    assert_ne!(a.key, a.operator);
    assert_ne!(a.key, [0; 32]);
    assert_eq!(a.fingerprint, b.fingerprint);
    for name in ["pair.key", "operator.key"] {
        let path = folder.path().join(".ravelin/pki").join(name);
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let path = folder.path().join(".ravelin/pki/pair.key");
    fs::write(&path, "12345\n").unwrap();
    let error = filled(&plan, "gw1", folder.path()).unwrap_err();
    assert!(
        error.contains("pair.key is not what it should be"),
        "{error}"
    );
}

#[test]
fn keys_of_adverts_stand_beside_the_site_file() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(HMAC);
    write(
        folder.path(),
        "a",
        &format!("hex:{}\n", "a5".repeat(32)),
        0o600,
    );
    write(folder.path(), "b", &"k".repeat(64), 0o400);
    let config = filled(&plan, "gw2", folder.path()).unwrap();
    for router in &config.routers {
        let Authentication::Hmac(hmac) = &router.authentication else {
            panic!("{router:?}")
        };
        let keys: Vec<(u8, &[u8])> = hmac.keys.iter().map(|k| (k.id, &k.secret[..])).collect();
        assert_eq!(keys, [(7, &[0xa5; 32][..]), (3, &[b'k'; 64][..])]);
    }
}

#[test]
fn passwords_are_filled_up_with_zeros() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "s3cr3t\n", 0o600);
    let config = filled(&plan(PASSWORD), "gw1", folder.path()).unwrap();
    let expected = Authentication::Password(*b"s3cr3t\0\0");
    assert!((config.routers.iter()).all(|router| router.authentication == expected));
}

#[test]
fn what_is_no_secret_is_refused() {
    let table = [
        (PASSWORD, None, 0, "cannot read it"),
        (
            PASSWORD,
            Some("secret"),
            0o640,
            "others may read this secret",
        ),
        (PASSWORD, Some("\n"), 0o600, "1 to 8 characters, not 0"),
        (
            PASSWORD,
            Some("ninechars"),
            0o600,
            "1 to 8 characters, not 9",
        ),
        (HMAC, Some("short"), 0o600, "not a key of 32 to 64 bytes"),
        (HMAC, Some("hex:abcdef"), 0o600, "not a key"),
        (
            HMAC,
            Some(&format!("hex:{}", "xy".repeat(32))),
            0o600,
            "not a key",
        ),
        (HMAC, Some(&"k".repeat(65)), 0o600, "not a key"),
    ];
    for (vrrp, text, mode, message) in table {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            write(folder.path(), "a", text, mode);
        }
        let error = filled(&plan(vrrp), "gw1", folder.path()).unwrap_err();
        assert!(error.contains(message) && error.contains("/a: "), "{error}");
    }
}

#[test]
fn mail_needs_a_password_for_us_alone_and_a_certificate() {
    let mut email = plan::Email {
        to: vec!["ops@x.example".to_owned()],
        from: "mon1@x.example".to_owned(),
        server: "smtp.x.example".to_owned(),
        port: 587,
        user: None,
        password_file: None,
        ca: None,
    };
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join(".ravelin");
    let none = mail(&state, &email).unwrap();
    assert!(none.password.is_none() && none.ca.is_none());
    email.password_file = Some("password".to_owned());
    email.ca = Some("ca.pem".to_owned());
    let certificate = "-----BEGIN CERTIFICATE-----\n";
    let table = [
        ("good one\n", 0o644, certificate, "others may read"),
        ("two\nlines", 0o600, certificate, "not one line"),
        ("\n", 0o600, certificate, "not one line"),
        ("good one\n", 0o600, "PEM", "no certificate"),
    ];
    for (password, mode, ca, message) in table {
        write(folder.path(), "password", password, mode);
        write(folder.path(), "ca.pem", ca, 0o644);
        let error = mail(&state, &email).err().unwrap();
        assert!(format!("{error:?}").contains(message), "{error:?}");
    }
    write(folder.path(), "ca.pem", certificate, 0o644);
    let read = mail(&state, &email).unwrap();
    assert_eq!(read.password.as_deref(), Some("good one"));
}

#[test]
fn the_sink_is_one_https_url_for_us_alone() {
    let table = [
        (None, 0o600, "cannot read it"),
        (
            Some("https://x.example/a"),
            0o644,
            "others may read this secret",
        ),
        (Some("http://x.example/a"), 0o600, "not one https:// URL"),
        (Some("https://"), 0o600, "not one https:// URL"),
        (
            Some("https://x.example/\nhttps://y.example/"),
            0o600,
            "not one https:// URL",
        ),
    ];
    for (text, mode, message) in table {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            write(folder.path(), "sumo.url", text, mode);
        }
        let error = url(&folder.path().join(".ravelin"), "sumo.url")
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "sumo.url",
        "https://x.example/a?b=c\n",
        0o600,
    );
    let read = url(&folder.path().join(".ravelin"), "sumo.url").unwrap();
    assert_eq!(read, "https://x.example/a?b=c");
}

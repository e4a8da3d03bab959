use super::*;

#[test]
fn what_was_sealed_opens() {
    let archive = lb1().seal(&site(1)).unwrap();
    assert_eq!(length(&archive), Ok(archive.len()));
    assert_eq!(archive, lb1().seal(&site(1)).unwrap());
    assert!(open(&archive, 1, "haproxy").is_ok_and(|opened| opened == lb1()));
    // As it lies on a stick.
    let padded = [archive.as_slice(), &[0; 4096]].concat();
    assert!(open(&padded, 1, "haproxy").is_ok());
}

#[test]
fn changed_bytes_and_cuts_are_refused() {
    let archive = lb1().seal(&site(1)).unwrap();
    for at in (0..archive.len()).step_by(3) {
        let mut changed = archive.clone();
        changed[at] ^= 1;
        assert!(open(&changed, 1, "haproxy").is_err(), "byte {at}");
        assert!(open(&archive[..at], 1, "haproxy").is_err(), "cut at {at}");
    }
}

#[test]
fn problems_are_told_apart() {
    let archive = lb1().seal(&site(1)).unwrap();
    let text = |archive: &[u8], seed, role| match open(archive, seed, role) {
        Ok(_) => "opens".to_owned(),
        Err(problem) => problem.to_string(),
    };
    let mut damaged = archive.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let table = [
        (
            text(&archive, 1, "nginx"),
            "is that of lb1, whose role is haproxy, not nginx",
        ),
        (
            text(&archive, 2, "haproxy"),
            "is of another site: it is signed by key 8a88e3dd, not by 8139770e",
        ),
        (
            text(&damaged, 1, "haproxy"),
            "is damaged: its signature does not match",
        ),
        (
            text(&archive[..80], 1, "haproxy"),
            "is damaged: its length is wrong",
        ),
        (
            text(&[0; 4096], 1, "haproxy"),
            "is not one: it does not begin with its mark",
        ),
    ];
    for (found, expected) in table {
        assert_eq!(found, expected);
    }
}

#[test]
fn files_an_identity_must_not_have_are_refused() {
    let table = [
        ("/usr/bin/x", "only files below /etc"),
        ("etc/hostname", "only files below /etc"),
        ("/etc/../usr/bin/x", "not in its simplest form"),
        ("/etc//hostname", "not in its simplest form"),
        ("/etc/shadow", "belong to the image"),
        ("/etc/ld.so.preload", "belong to the image"),
        ("/etc/hosts", "it is there twice"),
        ("/etc/hosts/x", "it is there twice"),
    ];
    for (path, why) in table {
        let mut identity = lb1();
        identity.files.push(file(path));
        let problem = identity.seal(&site(1)).unwrap_err().to_string();
        assert!(problem.contains(why), "{path}: {problem}");
    }
    let mut identity = lb1();
    identity.files[0].mode = 0o4755;
    assert!(identity.seal(&site(1)).is_err());
}

#[test]
fn public_keys_are_64_digits() {
    let public = site(1).verifying_key();
    assert_eq!(key(&digits(&public)), Some(public));
    for wrong in ["", "0f", &"0g".repeat(32), &"+f".repeat(32)] {
        assert_eq!(key(wrong), None, "{wrong}");
    }
}

fn open(archive: &[u8], seed: u8, role: &str) -> Result<Identity, Problem> {
    Identity::open(archive, &site(seed).verifying_key(), role)
}

fn site(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn lb1() -> Identity {
    Identity {
        role: "haproxy".to_owned(),
        server: "lb1".to_owned(),
        files: vec![file("/etc/hosts"), file("/etc/haproxy/haproxy.cfg")],
    }
}

fn file(path: &str) -> File {
    File {
        path: path.to_owned(),
        mode: 0o600,
        bytes: b"content".to_vec(),
    }
}

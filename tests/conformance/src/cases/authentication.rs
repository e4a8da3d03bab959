//! Passwords of version 2 (RFC 2338 §10.2) and keepalived's HMAC trailer (draft-cassen-vrrp-auth-hmac).

use forge::Vrrp;

use super::Case;
use super::validation::{Spoil, believed, ignored_by_active, ignored_by_backup};
use crate::frame::Advert;
use crate::profile::{
    KEYS, PASSWORD, PERMISSIVE, Profile, RECEIVE_ONLY, SIGNED, V2_PASSWORD, V6_SIGNED,
};
use crate::signature;
use crate::tester::{Tester, Verdict};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new(
            "an Active of version 2 sends its password",
            "RFC 2338 §5.3.10",
            V2_PASSWORD,
            |t| {
                let message = sent(t)?;
                assert_eq!(message[4], 1, "authentication type");
                assert_eq!(message[message.len() - 8..], PASSWORD);
                Ok(())
            },
        ),
        Case::new(
            "receive-only: an Active signs nothing",
            DRAFT,
            RECEIVE_ONLY,
            |t| {
                assert_eq!(sent(t)?.len(), 8 + 4 * 2);
                Ok(())
            },
        ),
    ];
    for (kind, profile) in [
        ("enforced", SIGNED),
        ("permissive", PERMISSIVE),
        ("IPv6, enforced", V6_SIGNED),
    ] {
        let name = format!("{kind}: an Active signs every advert, with numbers that grow");
        cases.push(Case::new(name, DRAFT, profile, signs));
    }
    let mut believes = |profile: Profile, what: &str, section, change: Spoil| {
        let name = format!("{}: a Backup believes {what}", profile.name);
        cases.push(Case::new(name, section, profile, move |t| {
            believed(t, change)
        }));
    };
    believes(
        V2_PASSWORD,
        "the right password",
        "RFC 2338 §7.1",
        |t, m| vec![t.unsigned(t.facts.peer(false), &m)],
    );
    for profile in [SIGNED, PERMISSIVE, RECEIVE_ONLY, V6_SIGNED] {
        believes(profile, "a signed advert", DRAFT, |t, m| {
            vec![t.from(t.facts.peer(false), &m)]
        });
        believes(profile, "one signed with the other key", DRAFT, |t, m| {
            vec![t.signed(t.facts.peer(false), &m, KEYS[1])]
        });
    }
    for profile in [PERMISSIVE, RECEIVE_ONLY] {
        believes(profile, "an unsigned advert", DRAFT, |t, m| {
            vec![t.unsigned(t.facts.peer(false), &m)]
        });
    }
    let mut ignores = |profile: Profile, what: &str, section, spoil: Spoil| {
        let name = |role: &str| format!("{}: {role} ignores {what}", profile.name);
        cases.push(Case::new(name("a Backup"), section, profile, move |t| {
            ignored_by_backup(t, &[spoil])
        }));
        cases.push(Case::new(name("an Active"), section, profile, move |t| {
            ignored_by_active(t, &[spoil])
        }));
    };
    ignores(
        V2_PASSWORD,
        "other passwords and none",
        "RFC 2338 §7.1",
        |t, m| {
            let from = |message: &Vrrp| t.unsigned(t.facts.peer(false), message);
            let wrong = [*b"secret13", *b"SECRET12", [0; 8]];
            let mut frames: Vec<_> = wrong
                .map(|password| {
                    from(&Vrrp {
                        authentication: password.to_vec(),
                        ..m.clone()
                    })
                })
                .into();
            frames.push(from(&Vrrp {
                interval: 1,
                ..m.clone()
            }));
            frames.push(from(&Vrrp {
                interval: 1,
                authentication: vec![0; 8],
                ..m.clone()
            }));
            frames.push(from(&Vrrp {
                authentication: Vec::new(),
                ..m
            }));
            frames
        },
    );
    for profile in [SIGNED, V6_SIGNED] {
        ignores(profile, "unsigned adverts", DRAFT, |t, m| {
            vec![t.unsigned(t.facts.peer(false), &m)]
        });
    }
    for profile in [SIGNED, PERMISSIVE, RECEIVE_ONLY, V6_SIGNED] {
        ignores(profile, "signatures that are wrong", DRAFT, wrongly_signed);
    }
    cases.push(Case::new(
        "a Backup believes no recording",
        DRAFT,
        SIGNED,
        recorded,
    ));
    cases
}

const DRAFT: &str = "draft-cassen-vrrp-auth-hmac";

/// The next advert of an Active.
fn sent(t: &mut Tester<'_>) -> Result<Vec<u8>, crate::tester::Late> {
    t.make_active()?;
    super::gaps(t, 1);
    let (_, Advert { message }) = t.adverts().next().expect("it advertises");
    Ok(message.to_vec())
}

fn signs(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    super::gaps(t, 5);
    let own = t.facts.own;
    let mut last = 0;
    for (_, Advert { message }) in t.adverts() {
        let (message, trailer) = message.split_at(message.len() - 28);
        let number = u64::from_be_bytes(trailer[4..12].try_into().expect("eight bytes"));
        assert_eq!(trailer, signature::trailer(own, message, KEYS[0], number));
        assert!(number > last, "{number:#x} after {last:#x}");
        last = number;
    }
    Ok(())
}

/// Each byte of the trailer is damaged in turn, the key is another, or the message is.
fn wrongly_signed(t: &Tester<'_>, message: Vrrp) -> Vec<Vec<u8>> {
    let peer = t.facts.peer(false);
    let bytes = t.bytes(peer, &message);
    let number = signature::number(crate::cable::now());
    let good = signature::trailer(peer, &bytes, KEYS[0], number);
    let with = |trailer: Vec<u8>, message: &Vrrp| {
        t.unsigned(
            peer,
            &Vrrp {
                trailer,
                ..message.clone()
            },
        )
    };
    let damaged = |at: usize| {
        let mut trailer = good.clone();
        trailer[at] ^= 1 << (at % 8);
        with(trailer, &message)
    };
    let mut frames: Vec<_> = (0..good.len()).map(damaged).collect();
    let other = |key| with(signature::trailer(peer, &bytes, key, number), &message);
    frames.push(other((KEYS[0].0, KEYS[1].1)));
    frames.push(other((8, KEYS[0].1)));
    let priority = message.priority ^ 1;
    frames.push(with(
        good.clone(),
        &Vrrp {
            priority,
            ..message.clone()
        },
    ));
    let elsewhere = t.facts.peer(true);
    frames.push(t.unsigned(
        elsewhere,
        &Vrrp {
            trailer: good,
            ..message
        },
    ));
    frames
}

/// What was believed once is sent again.
fn recorded(t: &mut Tester<'_>) -> Verdict {
    t.make_backup();
    let advert = t.advert(254);
    let last = t.send(&advert);
    let (unit, limit) = (t.unit(), last + 10 * t.unit());
    let heard = t.listen_sending(
        unit / 2,
        limit,
        || vec![advert.clone()],
        |frame| frame.advert().is_some(),
    );
    let heard =
        heard.unwrap_or_else(|| panic!("a recording silences it; its log:\n{}", t.device.log()));
    t.on_time(
        "the take-over",
        heard.at - last,
        t.facts.active_down(t.facts.interval),
    )
}

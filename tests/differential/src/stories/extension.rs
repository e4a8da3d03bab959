//! IPv6 extension headers.

use fastrand::Rng;
use forge::{Extension, Ip, Tcp, Udp};

use super::{Setting, pick, story};
use crate::story::{Step, Story};

/// Chains of extension headers in front of a datagram or a SYN.
pub fn headers(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let setting = Setting {
        v6: true,
        ..setting
    };
    let udp = rng.bool();
    let way = match udp {
        true => setting.udp(rng, number),
        false => setting.tcp(rng, number),
    };
    let mut steps = Vec::new();
    for _ in 0..rng.u8(1..4) {
        let Ip::V6(mut ip) = Ip::new(way.client.0, way.public.0) else {
            continue;
        };
        for _ in 0..rng.u8(0..4) {
            ip.extensions.push(match rng.u8(0..6) {
                0 => Extension::HopByHop(vec![1, 4, 0, 0, 0, 0]),
                1 | 2 => {
                    Extension::Destination(vec![1; rng.usize(0..20)].iter().map(|_| 0).collect())
                }
                3 => Extension::Routing(pick(rng, [0, 2, 3, 4]), rng.u8(0..2), vec![0; 20]),
                4 => Extension::Raw(pick(rng, [135, 139, 140]), vec![0; 7]),
                _ => Extension::Destination(vec![1, 2, 0, 0]),
            });
        }
        let packet = match udp {
            true => ip.around(&Udp {
                source: way.client.1,
                destination: way.public.1,
                payload: vec![5; 30],
                ..Udp::default()
            }),
            false => ip.around(&Tcp {
                source: way.client.1,
                destination: way.public.1,
                ..Tcp::default()
            }),
        };
        steps.push(Step::one(way.client_leg, "extension headers", packet));
    }
    story(steps)
}

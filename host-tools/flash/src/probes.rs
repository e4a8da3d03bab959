//! The debug probes of this machine.

use std::collections::BTreeMap;

use nusb::MaybeFuture as _;
use probe_rs::probe::{
    DebugProbeInfo, DebugProbeSelector,
    list::{Accessibility, Lister},
};
use serde::Serialize;

use crate::error::FlashError;

/// A debug probe that is connected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Probe {
    /// What it calls itself.
    pub name: String,
    /// `VID:PID:SERIAL`, which selects it unless there are several without a serial number.
    pub selector: String,
    /// The USB port that it is in (`1-4.2`), if it is in one.
    pub port: Option<String>,
    /// Whether we may use it.
    pub accessible: bool,
}

/// All that are connected, in the order of their USB ports.
#[must_use]
pub fn probes() -> Vec<Probe> {
    let mut ports = usb_ports();
    let found = Lister::new().list_all_with_access();
    let mut probes: Vec<Probe> = found
        .into_iter()
        .map(|item| {
            let key = key(&item.info);
            let port = ports.get_mut(&key).and_then(Vec::pop);
            Probe {
                name: item.info.identifier.clone(),
                selector: selector(&item.info),
                port,
                accessible: item.accessibility == Accessibility::Accessible,
            }
        })
        .collect();
    probes.sort_by(|one, other| (&one.port, one).cmp(&(&other.port, other)));
    probes
}

/// The probe that somebody means by `VID:PID:SERIAL` or a USB port. A probe behind a network (Black Magic by TCP) is in no list, and
/// selected by `1d50:6018:ADDRESS:PORT`.
///
/// # Errors
/// If there is none, or several.
pub fn find(wanted: &str) -> Result<Probe, FlashError> {
    let none = || FlashError::NoProbe {
        selector: wanted.to_owned(),
    };
    let all = probes();
    if let Some(probe) = all
        .iter()
        .find(|probe| probe.port.as_deref() == Some(wanted))
    {
        let alike = all.iter().filter(|other| other.selector == probe.selector);
        return match alike.count() {
            1 => Ok(probe.clone()),
            // The library opens the first of those that it cannot tell apart.
            _ => Err(FlashError::Held {
                reason: format!(
                    "another probe is `{}` too: unplug that one, or give them serial numbers",
                    probe.selector
                ),
            }),
        };
    }
    let selector: DebugProbeSelector = wanted.parse().map_err(|_| none())?;
    let mut found = Lister::new().list(Some(&selector)).into_iter();
    match (found.next(), found.next()) {
        (Some(info), None) => Ok(all
            .into_iter()
            .find(|probe| probe.selector == self::selector(&info))
            .unwrap_or_else(|| Probe {
                name: info.identifier.clone(),
                selector: self::selector(&info),
                port: None,
                accessible: true,
            })),
        (Some(_), Some(_)) => Err(FlashError::Held {
            reason: format!(
                "several probes are `{wanted}`: add the serial number, or name the USB port"
            ),
        }),
        (None, _) => Err(none()),
    }
}

fn selector(info: &DebugProbeInfo) -> String {
    let serial = info.serial_number.as_deref().unwrap_or_default();
    format!("{:04x}:{:04x}:{serial}", info.vendor_id, info.product_id)
}

type Key = (u16, u16, Option<String>);

fn key(info: &DebugProbeInfo) -> Key {
    (info.vendor_id, info.product_id, info.serial_number.clone())
}

/// The USB ports of what is connected, as Linux calls them.
fn usb_ports() -> BTreeMap<Key, Vec<String>> {
    let mut ports: BTreeMap<Key, Vec<String>> = BTreeMap::new();
    // Without USB there are no ports.
    let devices = nusb::list_devices().wait().into_iter().flatten();
    for device in devices {
        let serial = device.serial_number().map(str::to_owned);
        let key = (device.vendor_id(), device.product_id(), serial);
        let chain: Vec<String> = device.port_chain().iter().map(u8::to_string).collect();
        let port = format!(
            "{}-{}",
            device.bus_id().trim_start_matches('0'),
            chain.join(".")
        );
        ports.entry(key).or_default().push(port);
    }
    ports
}

//! A program of this machine in an appliance's place, for comparison: in a network namespace of its own, with
//! TAP interfaces of the switch that are called `wan` and `lan` and have the appliance's own addresses. Needs root.

use crate::cable::End;
use crate::error::{RehearseError, require_program};
use crate::light;
use crate::machine::CommandLine;
use crate::process::Process;
use crate::switch::Mode;

use super::{Cable, Kind, Machine, Parts, Rack, Vlans, unsuitable};

impl Rack {
    /// Starts `program` where the appliance `name` would be. Networks that share a cable cannot be had this way.
    pub fn start_peer(
        &mut self,
        name: &str,
        program: &CommandLine,
    ) -> Result<&Machine, RehearseError> {
        if !nix::unistd::Uid::effective().is_root() {
            return Err(RehearseError::NeedsRoot);
        }
        require_program("nsenter", "util-linux")?;
        let found = self
            .plan
            .appliances
            .iter()
            .find(|appliance| appliance.name == name);
        let appliance = found
            .ok_or_else(|| unsuitable(&format!("the site has no appliance `{name}`")))?
            .clone();
        let failed = |what: &str| RehearseError::system(format!("cannot make {what} for {name}"));
        let namespace = light::namespace(&self.sockets.path().join(format!("{name}.net")))
            .map_err(failed("a network namespace"))?;
        let vlans = Vlans::of(&self.plan);
        let mut cables = Vec::new();
        for leg in &appliance.legs {
            if leg.vlan.is_some() {
                return Err(unsuitable(
                    "a program in an appliance's place cannot have tagged networks",
                ));
            }
            let label = ["wan", "lan"][usize::from(leg.port).min(1)];
            let tap = format!(
                "rv{:x}{}{label}",
                std::process::id() & 0xffff,
                self.machines.len()
            );
            let device = light::tap(&tap, leg.mac).map_err(failed("a TAP interface"))?;
            light::give(&tap, &namespace).map_err(failed("a TAP interface"))?;
            let prefix = self
                .plan
                .network(&leg.network)
                .map_or(24, |network| network.subnet.prefix_len());
            let address = format!("{}/{prefix}", leg.address);
            let no_ipv6 = format!("net.ipv6.conf.{label}.disable_ipv6=1");
            for step in [
                &["ip", "link", "set", &tap, "name", label][..],
                &["sysctl", "-qw", &no_ipv6],
                &["ip", "address", "add", &address, "dev", label],
                &["ip", "link", "set", label, "up"],
            ] {
                inside(&namespace, step).map_err(failed("an interface"))?;
            }
            let mode = Mode::access(vlans.of_network(&leg.network));
            let port = self.connect(&format!("{name}-{label}"), mode.clone(), End::Tap(device))?;
            cables.push(Cable { port, mode });
        }
        let console = self.console(name);
        let mut arguments = vec![format!("--net=/proc/{}/ns/net", namespace.id())];
        arguments.push(program.program.display().to_string());
        arguments.extend(program.arguments.iter().cloned());
        self.spawn(Parts {
            name,
            kind: Kind::Appliance,
            line: CommandLine {
                program: "nsenter".into(),
                arguments,
            },
            output: console.clone(),
            console,
            monitor: None,
            cables,
            log: None,
            namespace: Some(namespace),
        })
    }
}

/// Runs a command in the namespace and wants it to succeed.
fn inside(namespace: &Process, command: &[&str]) -> std::io::Result<()> {
    let done = light::inside(namespace, command)?;
    if done.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(std::io::Error::other(format!(
        "{}: {words}",
        command.join(" ")
    )))
}

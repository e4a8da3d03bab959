//! Our pair: the Linux board, in real time.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{Appliances, Device, GATEWAYS, Lab, Program, Request};

use super::verdict::{PAIR, VRRP};
use super::{Contender, Settings};
use crate::BenchError;

/// Both appliances.
pub struct Ours {
    program: PathBuf,
    is_pair: bool,
    blobs: [Vec<u8>; 2],
    running: [Option<Program>; 2],
}

impl Ours {
    /// Configured like this.
    pub fn new(settings: &Settings, appliances: Appliances<'_>) -> Result<Self, BenchError> {
        Ok(Self {
            program: settings.program.clone(),
            is_pair: appliances.pair,
            blobs: appliances.blobs()?,
            running: [None, None],
        })
    }
}

impl Contender for Ours {
    fn who(&self) -> &'static str {
        match self.is_pair {
            true => PAIR,
            false => VRRP,
        }
    }

    fn start(&mut self, lab: &Lab, gateway: usize) -> Result<(), BenchError> {
        let name = format!("{}.blob", GATEWAYS[gateway]);
        let blob = lab.file(&name, &self.blobs[gateway])?.display().to_string();
        let words = ["run", "--realtime", "--config-blob", &blob];
        let ports = ["--port", "wan=wan", "--port", "lan=lan"];
        let started = lab.start(gateway, &self.program, &[&words[..], &ports].concat())?;
        self.running[gateway] = Some(started);
        Ok(())
    }

    fn settle(&self, lab: &Lab) -> Result<(), BenchError> {
        let begun = Instant::now();
        while self.is_pair && !lab.is_in_sync(0) {
            if begun.elapsed() > PATIENCE {
                let (what, said) = ("the pair's state".into(), self.said());
                return Err(BenchError::NoResult { what, said });
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn stop(&mut self, gateway: usize) {
        if let Some(running) = &self.running[gateway] {
            running.terminate();
        }
    }

    fn hand_over(&self, lab: &Lab) -> Result<(), BenchError> {
        lab.operate(0, Device::hand_over)?;
        Ok(())
    }

    fn take_back(&self, lab: &Lab) -> Result<(), BenchError> {
        Ok(lab.operate(0, |device| device.order(&Request::Maintenance(false)))?)
    }

    fn said(&self) -> String {
        let running = self.running.iter().flatten();
        running.map(Program::log).collect::<Vec<_>>().join("\n")
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

//! One device: compare, write what differs, read it back, start it, and wait until it lives.

use std::{
    fmt,
    ops::ControlFlow,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use build::{
    Board, Firmware,
    defmt_log::{Decoder, Line},
};
use probe_rs::{
    Core, CoreStatus, MemoryInterface as _, Permissions, Session, Target,
    config::Registry,
    flashing::{DownloadOptions, FlashProgress, ProgressEvent, ProgressOperation},
    probe::{DebugProbeError, DebugProbeSelector, Probe, WireProtocol, list::Lister},
    rtt::{self, Rtt, ScanRegion},
};

use crate::{
    Done, Job, Options, Outcome, Phase,
    error::FlashError,
    image::{self, ALIVE, Image, Piece, hex},
    provision::{self, Slots},
};

/// What is told about the work.
pub(crate) type Report<'a> = &'a dyn Fn(Phase);

/// How long a firmware may take to say that it lives.
const TO_LIVE: Duration = Duration::from_secs(60);
/// How often it is asked.
const TICK: Duration = Duration::from_millis(50);
/// The magic word at the start of an RTT control block, which a start must write anew.
const LOG_HEADER: usize = 16;

/// Brings one device up to date.
///
/// # Errors
/// If it is not up to date afterwards.
pub(crate) fn flash(
    selector: &str,
    job: &Job,
    options: &Options,
    report: Report<'_>,
) -> Result<Done, FlashError> {
    let image = &job.image;
    let board = &image.firmware.board;
    report(Phase::Connecting);
    let mut session = attach(selector, board, options.erase_all)?;
    let sectors = Sectors::of(session.target(), board)?;
    // Who it is outlives the erasure, unless that cannot be read.
    let slots = read_slots(&mut session, board)?;
    if options.erase_all {
        erase_all(&mut session, report)?;
    }
    let next = provision::next(&slots, job, options)
        .map_err(|reason| FlashError::NoIdentity { reason })?;
    let mut pieces = image.program.clone();
    pieces.extend(next.map(|next| Piece {
        address: next.address,
        bytes: next.bytes,
    }));
    let changes = compare(&mut session, &sectors.cover(&pieces), report)?;
    let bytes: u64 = changes.iter().map(|(_, new)| new.len() as u64).sum();
    let done = |session: &mut Session, outcome| Done {
        outcome,
        chip: chip_number(session, board),
        serial_number: read_slots(session, board)
            .ok()
            .and_then(|slots| provision::serial_number(&slots)),
    };
    if options.check {
        return Ok(Done {
            outcome: match bytes {
                0 => Outcome::UpToDate,
                _ => Outcome::Differs { bytes },
            },
            ..Done::default()
        });
    }
    if changes.is_empty() && runs(&mut session)? {
        return Ok(done(&mut session, Outcome::UpToDate));
    }
    if !changes.is_empty() {
        write(&mut session, &changes, report)?;
        verify(&mut session, &changes, report)?;
    }
    start(&mut session, image, report)?;
    Ok(done(&mut session, Outcome::Done { bytes }))
}

/// What a blank device would get, where no emulator has its board: as far as that is known without one.
///
/// # Errors
/// If the chip is not known, or has no flash where something belongs.
pub(crate) fn prepare(job: &Job, options: &Options) -> Result<Done, FlashError> {
    let board = &job.image.firmware.board;
    let Some(settings) = &board.probe else {
        return Err(FlashError::NoWay {
            board: board.name.clone(),
        });
    };
    let registry = registry(board, settings)?;
    let target = registry.get_target_by_name(&settings.chip);
    let target = target.map_err(|error| chip(board, &error))?;
    let next = provision::next(&Slots::default(), job, options)
        .map_err(|reason| FlashError::NoIdentity { reason })?;
    let mut pieces = job.image.program.clone();
    pieces.extend(next.map(|next| Piece {
        address: next.address,
        bytes: next.bytes,
    }));
    let sectors = Sectors::of(&target, board)?.cover(&pieces);
    let said = |(_, sector): &(u64, Vec<Option<u8>>)| sector.iter().flatten().count();
    let covered: usize = sectors.iter().map(said).sum();
    let wanted: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
    if covered != wanted {
        return Err(FlashError::Chip {
            board: board.name.clone(),
            message: format!("its flash has room for {covered} of {wanted} bytes"),
        });
    }
    let bytes = sectors.iter().map(|(_, sector)| sector.len() as u64).sum();
    Ok(Done {
        outcome: Outcome::Prepared { bytes },
        ..Done::default()
    })
}

/// What the slots of its configuration hold. A locked chip is found out later, where more is known.
fn read_slots(session: &mut Session, board: &Board) -> Result<Slots, FlashError> {
    let size = board.config_size / 2;
    let mut slots = Slots::default();
    for (index, slot) in slots.iter_mut().enumerate() {
        let address = board.config_address + (index * size) as u64;
        let mut head = [0; slots::provision::HEADER];
        if read(session, address, &mut head).is_err() {
            continue;
        }
        let length = slots::provision::length(&head).filter(|length| *length <= size);
        let mut bytes = vec![0; length.unwrap_or(0)];
        read(session, address, &mut bytes).map_err(|error| lost("comparing", &error))?;
        *slot = bytes;
    }
    Ok(slots)
}

/// The chip's own number, where it has one.
fn chip_number(session: &mut Session, board: &Board) -> Option<String> {
    let place = board.probe.as_ref()?.number?;
    let mut bytes = vec![0; place.size as usize];
    read(session, place.start, &mut bytes).ok()?;
    Some(hex(&bytes))
}

/// The appliance that a device says it is, if there is a configuration in it.
///
/// # Errors
/// If it cannot be asked.
pub fn identify(selector: &str, board: &Board) -> Result<Option<String>, FlashError> {
    let mut session = attach(selector, board, false)?;
    let slots = read_slots(&mut session, board)?;
    let config = provision::configuration(&slots).and_then(|bytes| policy::decode(bytes).ok());
    Ok(config.map(|(config, _)| config.name.as_str().to_owned()))
}

/// Opens the probe and finds the chip behind it.
pub(crate) fn attach(
    selector: &str,
    board: &Board,
    erase_all: bool,
) -> Result<Session, FlashError> {
    let Some(settings) = &board.probe else {
        return Err(FlashError::NoWay {
            board: board.name.clone(),
        });
    };
    let registry = registry(board, settings)?;
    let mut probe = open(selector)?;
    // Those that speak one protocol only say so; it is the one they speak.
    probe.select_protocol(WireProtocol::Swd).ok();
    let permissions = match erase_all {
        true => Permissions::new().allow_erase_all(),
        false => Permissions::new(),
    };
    let attached = probe.attach_with_registry(&*settings.chip, permissions, &registry);
    let mut session = attached.map_err(|error| match error {
        probe_rs::Error::MissingPermissions(_) => FlashError::Locked { address: 0 },
        probe_rs::Error::ChipNotFound(reason) => chip(board, &reason),
        error => FlashError::NoPower {
            reason: chain(&error),
        },
    })?;
    let id = settings.id;
    let found = session
        .core(0)
        .and_then(|mut core| core.read_word_32(id.address))
        .map_err(|error| lost("looking at the chip", &error))?;
    if found & id.mask != id.value {
        return Err(FlashError::WrongChip {
            board: board.name.clone(),
            found: found & id.mask,
            wanted: id.value,
        });
    }
    Ok(session)
}

fn registry(board: &Board, settings: &build::Probe) -> Result<Registry, FlashError> {
    let Some(file) = &settings.description else {
        return Ok(Registry::from_builtin_families());
    };
    let path = board.folder.join(file);
    let text = std::fs::read_to_string(&path).map_err(|error| FlashError::Chip {
        board: board.name.clone(),
        message: format!("{}: {error}", path.display()),
    })?;
    let mut registry = Registry::new();
    registry
        .add_target_family_from_yaml(&text)
        .map_err(|error| chip(board, &error))?;
    Ok(registry)
}

fn chip(board: &Board, error: &dyn std::error::Error) -> FlashError {
    FlashError::Chip {
        board: board.name.clone(),
        message: chain(error),
    }
}

fn open(selector: &str) -> Result<Probe, FlashError> {
    let none = || FlashError::NoProbe {
        selector: selector.to_owned(),
    };
    let parsed: DebugProbeSelector = selector.parse().map_err(|_| none())?;
    Lister::new().open(parsed).map_err(|error| match error {
        DebugProbeError::ProbeCouldNotBeCreated(probe_rs::probe::ProbeCreationError::NotFound) => {
            none()
        }
        error => FlashError::Held {
            reason: chain(&error),
        },
    })
}

/// The sectors of a chip's flash.
struct Sectors(Vec<(u64, u64)>);

impl Sectors {
    fn of(target: &Target, board: &Board) -> Result<Self, FlashError> {
        let mut sectors = Vec::new();
        for algorithm in &target.flash_algorithms {
            let properties = &algorithm.flash_properties;
            let range = &properties.address_range;
            for (index, kind) in properties.sectors.iter().enumerate() {
                let next = properties.sectors.get(index + 1);
                let end = next.map_or(range.end, |next| range.start + next.address);
                let mut at = range.start + kind.address;
                while kind.size > 0 && at < end {
                    sectors.push((at, kind.size));
                    at += kind.size;
                }
            }
        }
        sectors.sort_unstable();
        match sectors.is_empty() {
            false => Ok(Self(sectors)),
            true => Err(FlashError::Chip {
                board: board.name.clone(),
                message: "no flash algorithm".to_owned(),
            }),
        }
    }

    /// Each sector that a piece has bytes in: its address, and its bytes where a piece says any.
    fn cover(&self, pieces: &[Piece]) -> Vec<(u64, Vec<Option<u8>>)> {
        let mut covered = Vec::new();
        for &(start, size) in &self.0 {
            let mut content = vec![None; size as usize];
            let mut touched = false;
            for piece in pieces {
                let end = piece.address + piece.bytes.len() as u64;
                if piece.address >= start + size || end <= start {
                    continue;
                }
                touched = true;
                let from = start.max(piece.address);
                let to = (start + size).min(end);
                for at in from..to {
                    content[(at - start) as usize] =
                        Some(piece.bytes[(at - piece.address) as usize]);
                }
            }
            if touched {
                covered.push((start, content));
            }
        }
        covered
    }
}

/// Sectors that are not as they should be, with all that they should hold: what the image does not mention stays.
fn compare(
    session: &mut Session,
    wanted: &[(u64, Vec<Option<u8>>)],
    report: Report<'_>,
) -> Result<Vec<(u64, Vec<u8>)>, FlashError> {
    let total: usize = wanted.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut done = 0;
    let mut changes = Vec::new();
    for (address, wanted) in wanted {
        let mut found = vec![0; wanted.len()];
        if let Err(error) = read(session, *address, &mut found) {
            // Whoever can still tell what the core does is connected, and may not read.
            return Err(match session.core(0).and_then(|mut core| core.status()) {
                Ok(_) => FlashError::Locked { address: *address },
                Err(_) => lost("comparing", &error),
            });
        }
        let new = wanted
            .iter()
            .zip(&found)
            .map(|(new, old)| new.unwrap_or(*old));
        let new: Vec<u8> = new.collect();
        if new != found {
            changes.push((*address, new));
        }
        done += wanted.len();
        report(Phase::Comparing {
            done: done as u64,
            total: total as u64,
        });
    }
    Ok(changes)
}

fn read(session: &mut Session, address: u64, bytes: &mut [u8]) -> Result<(), probe_rs::Error> {
    session.core(0)?.read(address, bytes)
}

fn write(
    session: &mut Session,
    changes: &[(u64, Vec<u8>)],
    report: Report<'_>,
) -> Result<(), FlashError> {
    let total: u64 = changes.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let mut loader = session.target().flash_loader();
    for (address, bytes) in changes {
        loader.add_data(*address, bytes).map_err(failed)?;
    }
    let mut erased = 0;
    let mut written = 0;
    let mut options = DownloadOptions::new();
    options.progress = FlashProgress::new(|event| {
        if let ProgressEvent::Progress {
            operation, size, ..
        } = event
        {
            match operation {
                ProgressOperation::Erase => {
                    erased += size;
                    report(Phase::Erasing {
                        done: erased,
                        total,
                    });
                }
                ProgressOperation::Program => {
                    written += size;
                    report(Phase::Writing {
                        done: written,
                        total,
                    });
                }
                ProgressOperation::Fill | ProgressOperation::Verify => {}
            }
        }
    });
    let result = loader.commit(session, options);
    result.map_err(|error| still_there(session, "writing", failed(error)))
}

fn failed(error: probe_rs::flashing::FlashError) -> FlashError {
    FlashError::Write {
        reason: chain(&error),
    }
}

/// The error itself, if the device still answers; else that it does not.
fn still_there(session: &mut Session, during: &'static str, error: FlashError) -> FlashError {
    match session.core(0).and_then(|mut core| core.status()) {
        Ok(_) => error,
        Err(gone) => lost(during, &gone),
    }
}

fn verify(
    session: &mut Session,
    changes: &[(u64, Vec<u8>)],
    report: Report<'_>,
) -> Result<(), FlashError> {
    let total: u64 = changes.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let mut done = 0;
    for (address, wanted) in changes {
        let mut found = vec![0; wanted.len()];
        read(session, *address, &mut found).map_err(|error| lost("reading back", &error))?;
        let differs = wanted.iter().zip(&found).position(|(new, old)| new != old);
        if let Some(at) = differs {
            return Err(FlashError::ReadBack {
                address: address + at as u64,
                wanted: wanted[at],
                found: found[at],
            });
        }
        done += wanted.len() as u64;
        report(Phase::Verifying { done, total });
    }
    Ok(())
}

fn erase_all(session: &mut Session, report: Report<'_>) -> Result<(), FlashError> {
    report(Phase::ErasingAll);
    let erased = match session.has_sequence_erase_all() {
        true => session.sequence_erase_all().map_err(|error| chain(&error)),
        false => {
            let mut nothing = FlashProgress::empty();
            probe_rs::flashing::erase_all(session, &mut nothing, false)
                .map_err(|error| chain(&error))
        }
    };
    erased.map_err(|reason| still_there(session, "erasing", FlashError::Write { reason }))
}

/// Whether the core runs: one that a broken attempt left halted, or that could not start, does not.
fn runs(session: &mut Session) -> Result<bool, FlashError> {
    let status = session.core(0).and_then(|mut core| core.status());
    let status = status.map_err(|error| lost("looking at the core", &error))?;
    Ok(matches!(status, CoreStatus::Running | CoreStatus::Sleeping))
}

/// Brings only the program of a device up to date, leaves who it is alone, and starts it, whatever the program is. Returns how many
/// bytes were written.
///
/// # Errors
/// If it does not fit, or the device fails.
pub fn load(
    selector: &str,
    firmware: &Firmware,
    report: &dyn Fn(Phase),
) -> Result<u64, FlashError> {
    let (program, log) = image::program(firmware)?;
    report(Phase::Connecting);
    let mut session = attach(selector, &firmware.board, false)?;
    let sectors = Sectors::of(session.target(), &firmware.board)?;
    let changes = compare(&mut session, &sectors.cover(&program), report)?;
    if !changes.is_empty() {
        write(&mut session, &changes, report)?;
        verify(&mut session, &changes, report)?;
    }
    report(Phase::Starting);
    let gone = |error: probe_rs::Error| lost("starting", &error);
    restart(&mut session.core(0).map_err(gone)?, log).map_err(gone)?;
    Ok(changes.iter().map(|(_, new)| new.len() as u64).sum())
}

/// Follows what a device says, until `line` has heard enough, which is asked also while nothing is said. A restart of the device
/// does not end that.
///
/// # Errors
/// If it cannot be asked, or the link breaks.
pub fn tail(
    selector: &str,
    firmware: &Firmware,
    line: &mut dyn FnMut(Option<Line>) -> ControlFlow<()>,
) -> Result<(), FlashError> {
    let elf = &firmware.elf;
    let mut decoder = Decoder::with_places(elf).map_err(|error| unread(elf, &error))?;
    let bytes = std::fs::read(elf).map_err(|error| unread(elf, &error))?;
    let file = object::File::parse(&*bytes).map_err(|error| unread(elf, &error))?;
    let address = image::log_address(&file).map_err(|error| unread(elf, &error))?;
    let mut session = attach(selector, &firmware.board, false)?;
    let mut core = session.core(0).map_err(|error| lost("listening", &error))?;
    let mut rtt = None;
    loop {
        let bytes = hear(&mut core, &mut rtt, address, "listening")?;
        let lines = decoder.push(&bytes).into_iter().map(Some);
        for heard in lines.chain([None]) {
            if line(heard).is_break() {
                return Ok(());
            }
        }
        if bytes.is_empty() {
            thread::sleep(TICK);
        }
    }
}

fn unread(elf: &Path, error: &dyn fmt::Display) -> FlashError {
    FlashError::File {
        path: elf.display().to_string(),
        message: error.to_string(),
    }
}

/// What it has said since the last time. Its control block is looked for until it is there.
fn hear(
    core: &mut Core<'_>,
    rtt: &mut Option<Rtt>,
    address: u64,
    during: &'static str,
) -> Result<Vec<u8>, FlashError> {
    if rtt.is_none() {
        *rtt = Rtt::attach_region(core, &ScanRegion::Exact(address)).ok();
    }
    let Some(channel) = rtt.as_mut().and_then(|rtt| rtt.up_channel(0)) else {
        // Not there yet; or nobody is there any more.
        core.status().map_err(|error| lost(during, &error))?;
        return Ok(Vec::new());
    };
    let mut bytes = vec![0; 1024];
    match channel.read(core, &mut bytes) {
        Ok(count) => {
            bytes.truncate(count);
            Ok(bytes)
        }
        // It starts anew, and its control block with it.
        Err(rtt::Error::ControlBlockCorrupted(_) | rtt::Error::ReadPointerChanged) => {
            *rtt = None;
            Ok(Vec::new())
        }
        Err(error) => Err(FlashError::LinkLost {
            during,
            reason: chain(&error),
        }),
    }
}

/// Resets the board and waits until its firmware says that it lives, with what was flashed.
fn start(session: &mut Session, image: &Image, report: Report<'_>) -> Result<(), FlashError> {
    report(Phase::Starting);
    let gone = |error: probe_rs::Error| lost("starting", &error);
    let (elf, address) = (&image.firmware.elf, image.log);
    let mut decoder = Decoder::open(elf).map_err(|error| unread(elf, &error))?;
    let mut core = session.core(0).map_err(gone)?;
    restart(&mut core, address).map_err(gone)?;
    let begun = Instant::now();
    let mut rtt = None;
    let mut log: Vec<String> = Vec::new();
    while begun.elapsed() < TO_LIVE {
        let bytes = hear(&mut core, &mut rtt, address, "starting")?;
        for line in decoder.push(&bytes) {
            if line.text.starts_with(ALIVE) {
                let wanted = image.alive();
                return match line.text == wanted {
                    true => Ok(()),
                    false => Err(FlashError::OtherAlive {
                        found: line.text,
                        wanted,
                    }),
                };
            }
            log.push(line.text);
        }
        if bytes.is_empty() {
            thread::sleep(TICK);
        }
    }
    log.drain(..log.len().saturating_sub(3));
    Err(FlashError::NotAlive {
        patience: TO_LIVE,
        log,
    })
}

/// Resets a core. RAM outlives that, and with it what an earlier firmware said at this address, so that is taken away.
fn restart(core: &mut Core<'_>, log: u64) -> Result<(), probe_rs::Error> {
    core.halt(Duration::from_secs(5))?;
    core.write_8(log, &[0; LOG_HEADER])?;
    core.reset()
}

pub(crate) fn lost(during: &'static str, error: &probe_rs::Error) -> FlashError {
    FlashError::LinkLost {
        during,
        reason: chain(error),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text.trim_end_matches('.').to_owned()
}

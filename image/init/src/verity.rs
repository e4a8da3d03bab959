//! Opens a block device through dm-verity: what is read from it then hashes to the given root hash, or fails.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// Hash of the whole root, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootHash(String);

impl RootHash {
    /// 64 hexadecimal digits: a SHA-256.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| Self(text.to_ascii_lowercase()))
    }

    /// Whether it is this one.
    pub fn is(&self, hash: &[u8; 32]) -> bool {
        self.0 == hex(hash)
    }
}

/// The parts that vary of what `veritysetup format` writes at the start of the hash device.
///
/// It need not be trusted: with a wrong salt or size nothing hashes to the root hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    data_blocks: u64,
    salt: Vec<u8>,
}

impl Superblock {
    /// Reads it from the hash device.
    pub fn read(device: &Path) -> io::Result<Self> {
        let mut bytes = [0; SUPERBLOCK];
        File::open(device)?.read_exact(&mut bytes)?;
        Self::parse(&bytes).map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem))
    }

    fn parse(bytes: &[u8; SUPERBLOCK]) -> Result<Self, &'static str> {
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if &bytes[..8] != b"verity\0\0" || number(8) != 1 || number(12) != 1 {
            return Err("this is not a table of hashes of version 1");
        }
        if !bytes[32..64].starts_with(b"sha256\0") {
            return Err("the hash algorithm is not sha256");
        }
        if (number(64), number(68)) != (BLOCK, BLOCK) {
            return Err("blocks are not of 4096 bytes");
        }
        let data_blocks = u64::from(number(72)) | u64::from(number(76)) << 32;
        let length = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        let salt = bytes[88..344].get(..length).ok_or("the salt is too long")?;
        Ok(Self {
            data_blocks,
            salt: salt.to_vec(),
        })
    }

    /// What is hashed before each block.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Length of the data in sectors of 512 bytes.
    fn sectors(&self) -> u64 {
        self.data_blocks.saturating_mul(u64::from(BLOCK / 512))
    }

    /// The parameters of the device mapper's `verity` target (its version 1).
    fn target(&self, data: &Path, hashes: &Path, root: &RootHash) -> String {
        let salt = match self.salt.as_slice() {
            [] => "-".to_owned(),
            salt => hex(salt),
        };
        // Hashes begin in the block after the superblock.
        format!(
            "1 {} {} {BLOCK} {BLOCK} {} 1 sha256 {} {salt}",
            data.display(),
            hashes.display(),
            self.data_blocks,
            root.0
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Creates the mapped device and returns its node.
pub fn open(
    data: &Path,
    hashes: &Path,
    superblock: &Superblock,
    root: &RootHash,
) -> io::Result<PathBuf> {
    let control = control()?;
    let mut request = Request::new();
    request.submit(&control, Command::Create)?;

    let mut request = Request::new();
    request.add_target(
        superblock.sectors(),
        "verity",
        &superblock.target(data, hashes, root),
    )?;
    request.submit(&control, Command::LoadTable)?;

    // "Suspend" without the suspend flag resumes, which activates the table.
    let mut request = Request::new();
    request.submit(&control, Command::Resume)?;

    let (device, node) = (request.header.device, PathBuf::from("/dev/mapper/root"));
    // The kernel's own encoding (new_encode_dev), which is not the C library's.
    let (high, low) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    );
    match mknod(&node, SFlag::S_IFBLK, Mode::S_IRUSR, makedev(high, low)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(node),
        Err(error) => Err(error.into()),
    }
}

/// The device mapper's control device; makes its node, as udev does not run yet.
fn control() -> io::Result<File> {
    let path = Path::new("/dev/mapper/control");
    if !path.exists() {
        std::fs::create_dir_all("/dev/mapper")?;
        let device = control_device(&std::fs::read_to_string("/proc/misc")?).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the kernel has no device mapper")
        })?;
        mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, device)?;
    }
    File::options().read(true).write(true).open(path)
}

/// Finds the control device in the text of `/proc/misc`.
fn control_device(misc: &str) -> Option<u64> {
    let number = misc.lines().find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (name.trim() == "device-mapper").then_some(number)
    })?;
    Some(makedev(MISC_MAJOR, number.parse().ok()?))
}

/// The calls of the device mapper that we need (`linux/dm-ioctl.h`).
#[derive(Clone, Copy)]
enum Command {
    Create,
    LoadTable,
    Resume,
}

/// One request: the header, at most one target, and that target's parameters as a C string.
#[repr(C)]
struct Request {
    header: Header,
    target: Target,
    parameters: [u8; PARAMETERS],
}

/// `struct dm_ioctl`.
#[repr(C)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`.
#[repr(C)]
struct Target {
    start: u64,
    length: u64,
    status: i32,
    next: u32,
    kind: [u8; 16],
}

impl Request {
    fn new() -> Self {
        let mut name = [0; 128];
        name[..4].copy_from_slice(b"root");
        let header = Header {
            version: [4, 0, 0],
            data_size: size_of::<Self>() as u32,
            data_start: size_of::<Header>() as u32,
            target_count: 0,
            open_count: 0,
            flags: READ_ONLY,
            event: 0,
            padding: 0,
            device: 0,
            name,
            uuid: [0; 129],
            data: [0; 7],
        };
        let target = Target {
            start: 0,
            length: 0,
            status: 0,
            next: 0,
            kind: [0; 16],
        };
        Self {
            header,
            target,
            parameters: [0; PARAMETERS],
        }
    }

    fn add_target(&mut self, sectors: u64, kind: &str, parameters: &str) -> io::Result<()> {
        // Both end with at least one zero byte.
        if kind.len() >= self.target.kind.len() || parameters.len() >= PARAMETERS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.header.target_count = 1;
        self.target.length = sectors;
        self.target.kind[..kind.len()].copy_from_slice(kind.as_bytes());
        self.parameters[..parameters.len()].copy_from_slice(parameters.as_bytes());
        Ok(())
    }

    fn submit(&mut self, control: &File, command: Command) -> io::Result<()> {
        let call = match command {
            Command::Create => ioctl::create,
            Command::LoadTable => ioctl::load_table,
            Command::Resume => ioctl::resume,
        };
        let request: *mut Self = self;
        // SAFETY: `request` points to a whole `Request`, which begins with the header (repr(C)); the header says that
        // the kernel may read and write `size_of::<Request>()` bytes from there, and nothing else refers to them now.
        unsafe { call(control.as_raw_fd(), request) }?;
        Ok(())
    }
}

/// The numbers encode the size of the header alone, so the macros of nix would not take a whole [`Request`].
mod ioctl {
    use super::{Header, Request};

    const fn number(command: u8) -> nix::sys::ioctl::ioctl_num_type {
        nix::request_code_readwrite!(0xfd, command, size_of::<Header>())
    }
    nix::ioctl_readwrite_bad!(create, number(3), Request);
    nix::ioctl_readwrite_bad!(resume, number(6), Request);
    nix::ioctl_readwrite_bad!(load_table, number(9), Request);
}

const SUPERBLOCK: usize = 512;
const BLOCK: u32 = 4096;
const PARAMETERS: usize = 1024;
const READ_ONLY: u32 = 1;
const MISC_MAJOR: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_layout() {
        assert_eq!(size_of::<Header>(), 312);
        assert_eq!(size_of::<Target>(), 40);
        assert_eq!(std::mem::offset_of!(Header, device), 40);
        assert_eq!(std::mem::offset_of!(Header, uuid), 176);
        assert_eq!(std::mem::offset_of!(Request, target), 312);
        assert_eq!(std::mem::offset_of!(Request, parameters), 352);
    }

    #[test]
    fn a_superblock_becomes_a_target() {
        let mut bytes = superblock();
        let parsed = Superblock::parse(&bytes).unwrap();
        assert_eq!(
            parsed,
            Superblock {
                data_blocks: 38_000,
                salt: vec![0xab, 0xcd]
            }
        );
        assert_eq!(parsed.sectors(), 304_000);
        let root = RootHash::parse(&"5".repeat(64)).unwrap();
        assert_eq!(
            parsed.target(Path::new("/dev/vda2"), Path::new("/dev/vda3"), &root),
            format!(
                "1 /dev/vda2 /dev/vda3 4096 4096 38000 1 sha256 {} abcd",
                "5".repeat(64)
            )
        );
        bytes[80] = 0;
        let unsalted = Superblock::parse(&bytes).unwrap();
        let target = unsalted.target(Path::new("/a"), Path::new("/b"), &root);
        assert!(target.ends_with(" -"), "{target}");
    }

    #[test]
    fn other_superblocks_are_refused() {
        let table = [
            (0, b'x', "this is not a table of hashes of version 1"),
            (8, 2, "this is not a table of hashes of version 1"),
            (34, b'X', "the hash algorithm is not sha256"),
            (65, 2, "blocks are not of 4096 bytes"),
            (81, 2, "the salt is too long"),
        ];
        for (at, value, problem) in table {
            let mut bytes = superblock();
            bytes[at] = value;
            assert_eq!(Superblock::parse(&bytes), Err(problem), "byte {at}");
        }
    }

    #[test]
    fn root_hashes_are_64_digits() {
        assert!(RootHash::parse(&"0f".repeat(32)).is_some());
        for wrong in ["", "0f", &"0g".repeat(32), &"0f".repeat(33)] {
            assert!(RootHash::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_control_device_is_found_among_others() {
        let misc = "232 kvm\n236 device-mapper\n144 nvram\n";
        assert_eq!(control_device(misc), Some(makedev(10, 236)));
        assert_eq!(control_device("232 kvm\n"), None);
    }

    #[test]
    fn parameters_that_do_not_fit_are_refused() {
        let mut request = Request::new();
        assert!(
            request
                .add_target(8, "verity", &"x".repeat(PARAMETERS))
                .is_err()
        );
        assert!(request.add_target(8, "a-very-long-name", "x").is_err());
        assert!(
            request
                .add_target(8, "verity", &"x".repeat(PARAMETERS - 1))
                .is_ok()
        );
    }

    fn superblock() -> [u8; SUPERBLOCK] {
        let mut bytes = [0; SUPERBLOCK];
        bytes[..8].copy_from_slice(b"verity\0\0");
        bytes[8] = 1;
        bytes[12] = 1;
        bytes[32..38].copy_from_slice(b"sha256");
        bytes[64..68].copy_from_slice(&4096_u32.to_le_bytes());
        bytes[68..72].copy_from_slice(&4096_u32.to_le_bytes());
        bytes[72..80].copy_from_slice(&38_000_u64.to_le_bytes());
        bytes[80] = 2;
        bytes[88..90].copy_from_slice(&[0xab, 0xcd]);
        bytes
    }
}

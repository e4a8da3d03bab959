//! Writes the archive format that the kernel unpacks at boot ("newc", Documentation/driver-api/early-userspace/buffer-format).

/// An archive in the making; all files belong to root and carry no time.
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
    directories: Vec<String>,
}

impl Cpio {
    /// Adds a file at a path without a leading slash, with its directories.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        for (end, _) in path.match_indices('/') {
            let directory = &path[..end];
            if !self.directories.iter().any(|known| known == directory) {
                self.directories.push(directory.to_owned());
                self.entry(directory, 0o040_755, &[]);
            }
        }
        self.entry(path, 0o100_000 | (mode & 0o7777), content);
    }

    /// The archive, padded so that another may follow.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.header("TRAILER!!!", 0, 1, 0);
        self.pad(512);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let links = if content.is_empty() && mode & 0o040_000 != 0 {
            2
        } else {
            1
        };
        self.header(path, mode, links, content.len());
        self.bytes.extend_from_slice(content);
        self.pad(4);
    }

    fn header(&mut self, path: &str, mode: u32, links: u32, size: usize) {
        let size = u32::try_from(size).expect("a file in an initrd is far below 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("paths are short");
        let (user, group, time, device) = (0, 0, 0, 0);
        self.bytes.extend_from_slice(b"070701");
        let fields = [
            self.inode, mode, user, group, links, time, size, device, device, device, device,
            name_size, 0,
        ];
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_small_file_to_the_byte() {
        let mut cpio = Cpio::default();
        cpio.file("ab", 0o600, b"hello");
        let bytes = cpio.finish();
        let zero = "00000000";
        let header = format!(
            "0707010000000100008180{zero}{zero}00000001{zero}00000005{zero}{zero}{zero}{zero}00000003{zero}"
        );
        assert_eq!(std::str::from_utf8(&bytes[..110]).unwrap(), header);
        assert_eq!(&bytes[110..124], b"ab\0\0\0\0hello\0\0\0");
        assert_eq!(bytes.len(), 512);
    }

    #[test]
    fn directories_come_once_and_before_their_files() {
        let mut cpio = Cpio::default();
        cpio.file("host/etc/a", 0o644, b"1");
        cpio.file("host/etc/b", 0o644, b"2");
        let text = String::from_utf8(cpio.finish()).unwrap();
        let at = |name: &str| text.find(&format!("{name}\0")).unwrap();
        assert!(at("host") < at("host/etc") && at("host/etc") < at("host/etc/a"));
        assert_eq!(text.matches("host/etc\0").count(), 1);
        assert!(at("TRAILER!!!") > at("host/etc/b"));
    }
}

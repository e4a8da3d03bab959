//! What the kernel tells about itself and its disks, as text.

/// Value of `name=value` on a kernel command line; the last one counts.
pub fn parameter<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .next_back()
}

/// Name of the partition that a `uevent` file in `/sys/class/block/…` describes.
pub fn partition_name(uevent: &str) -> Option<&str> {
    uevent
        .lines()
        .find_map(|line| line.strip_prefix("PARTNAME="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_whole_words() {
        let line = "quiet ravelin.roothash=12 xravelin.roothash=3 ravelin.roothashes=4 ravelin.roothash=56\n";
        assert_eq!(parameter(line, "ravelin.roothash"), Some("56"));
        assert_eq!(parameter("ravelin.roothash", "ravelin.roothash"), None);
        assert_eq!(parameter("", "ravelin.roothash"), None);
    }

    #[test]
    fn partitions_are_told_by_their_full_name() {
        let uevent =
            "MAJOR=254\nMINOR=3\nDEVNAME=vda3\nDEVTYPE=partition\nPARTN=3\nPARTNAME=root-verity\n";
        assert_eq!(partition_name(uevent), Some("root-verity"));
        assert_eq!(partition_name("MAJOR=254\nDEVTYPE=disk\n"), None);
    }
}

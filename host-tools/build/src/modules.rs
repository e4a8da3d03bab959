//! Which kernel modules to load, and in which order.

/// Files of the wanted modules and of all they need, each after those it needs, from the text of `modules.dep`.
///
/// Names that the kernel has built in, or does not have, are passed over.
pub fn load_order(modules_dep: &str, wanted: &[String]) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for name in wanted {
        let line = modules_dep.lines().find_map(|line| {
            let (file, needs) = line.split_once(':')?;
            (module_name(file) == *name).then_some((file, needs))
        });
        let Some((file, needs)) = line else { continue };
        // depmod lists what a module needs so that the last one must be loaded first.
        for file in needs.split_whitespace().rev().chain([file]) {
            if !order.iter().any(|known| known == file) {
                order.push(file.to_owned());
            }
        }
    }
    order
}

/// `kernel/drivers/md/dm-verity.ko.xz` is `dm_verity`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_first_and_once() {
        let modules_dep = "kernel/fs/erofs/erofs.ko.xz: kernel/fs/netfs/netfs.ko.xz kernel/lib/libcrc32c.ko.xz\n\
                           kernel/drivers/md/dm-mod.ko.xz:\n\
                           kernel/drivers/md/dm-verity.ko.xz: kernel/drivers/md/dm-bufio.ko.xz kernel/drivers/md/dm-mod.ko.xz\n\
                           kernel/fs/ext4/ext4.ko.xz: kernel/lib/libcrc32c.ko.xz\n";
        let wanted = ["erofs", "dm_verity", "not_there", "ext4"].map(str::to_owned);
        assert_eq!(
            load_order(modules_dep, &wanted),
            [
                "kernel/lib/libcrc32c.ko.xz",
                "kernel/fs/netfs/netfs.ko.xz",
                "kernel/fs/erofs/erofs.ko.xz",
                "kernel/drivers/md/dm-mod.ko.xz",
                "kernel/drivers/md/dm-bufio.ko.xz",
                "kernel/drivers/md/dm-verity.ko.xz",
                "kernel/fs/ext4/ext4.ko.xz",
            ]
        );
    }
}

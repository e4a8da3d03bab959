# Kernel image, EFI partition and partition table of one server. Runs in the tools tree.
# $1: working directory with disk.raw, partitions, host.cpio and cmdline; $2: directory of the kernel;
# $3: size of the EFI partition; $4: its offset on the disk in MiB; $5: its serial number
work=$1 boot=$2 esp_size=$3 esp_offset=$4 serial=$5
cd "$work"
ukify build --linux="$boot/vmlinuz" --initrd="$boot/initrd.cpio" --initrd=host.cpio --cmdline=@cmdline \
    --os-release="@$boot/os-release" --output=uki.efi
touch -d "@$SOURCE_DATE_EPOCH" uki.efi
truncate -s "$esp_size" esp.fat
mkfs.fat -F 32 -s 1 --invariant -i "$serial" -n ESP esp.fat
mmd -i esp.fat ::EFI ::EFI/BOOT
mcopy -m -i esp.fat uki.efi ::EFI/BOOT/BOOTX64.EFI
dd if=esp.fat of=disk.raw bs=1M "seek=$esp_offset" conv=notrunc,sparse status=none
sfdisk --quiet --no-reread --no-tell-kernel disk.raw < partitions
rm esp.fat

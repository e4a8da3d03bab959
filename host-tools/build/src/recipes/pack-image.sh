# Kernel image, EFI partition and partition table of a role. Runs in the tools tree; the key for Secure Boot comes in a pipe,
# and is in memory only.
# $1: working directory with cmdline, loader.conf, entry.conf, identity.cred, partitions and what is public of the keys;
# $2: directory of the kernel; $3: size of the EFI partition; $4: its serial number; $5: length of the disk
work=$1 boot=$2 esp_size=$3 serial=$4 length=$5
exec >&2
cd "$work"
cat > /tmp/db.key
ukify build --linux="$boot/vmlinuz" --initrd="$boot/initrd.cpio" --cmdline=@cmdline \
    --os-release="@$boot/os-release" --output=unsigned.efi
# A signature says when it was made: always at the same time.
sign() {
    faketime -f "$(date -d "@$SOURCE_DATE_EPOCH" '+%F %T')" \
        sbsign --key /tmp/db.key --cert db.pem --output "$2" "$1"
    sbverify --cert db.pem "$2"
}
sign unsigned.efi linux.efi
sign /usr/lib/systemd/boot/efi/systemd-bootx64.efi loader.efi
touch -d "@$SOURCE_DATE_EPOCH" linux.efi loader.efi loader.conf entry.conf identity.cred PK.auth KEK.auth db.auth
truncate -s "$esp_size" esp.fat
mkfs.fat -F 32 -s 1 --invariant -i "$serial" -n ESP esp.fat
mmd -i esp.fat ::EFI ::EFI/BOOT ::EFI/ravelin ::EFI/ravelin/1 ::EFI/ravelin/1/linux.efi.extra.d ::loader ::loader/entries \
    ::loader/keys ::loader/keys/auto
mcopy -m -i esp.fat loader.efi ::EFI/BOOT/BOOTX64.EFI
mcopy -m -i esp.fat loader.conf ::loader/loader.conf
mcopy -m -i esp.fat PK.auth KEK.auth db.auth ::loader/keys/auto
mcopy -m -i esp.fat entry.conf ::loader/entries/ravelin-1.conf
mcopy -m -i esp.fat linux.efi ::EFI/ravelin/1/linux.efi
mcopy -m -i esp.fat identity.cred ::EFI/ravelin/1/linux.efi.extra.d/identity.cred
truncate -s "$length" disk.raw
sfdisk --quiet --no-reread --no-tell-kernel disk.raw < partitions

# Copies the base and gathers the files that go over it.
# $1: root of the base; $2: working directory; $3, $4: files of the base and of the role; the rest: programs
base=$1 work=$2 base_files=$3 role_files=$4
shift 4
cp -a --reflink=auto "$base" "$work/root"
mkdir -p "$work/files/usr/bin"
for files in "$base_files" "$role_files"; do
    [ ! -d "$files" ] || cp -a --no-preserve=ownership "$files/." "$work/files/"
done
for program; do
    cp "$program" "$work/files/usr/bin/"
    chmod 755 "$work/files/usr/bin/${program##*/}"
done
# Modes do not depend on the umask of whoever checked the files out.
find "$work/files" -type d -exec chmod 755 {} +
find "$work/files" -type f -perm /111 -exec chmod 755 {} +
find "$work/files" -type f ! -perm /111 -exec chmod 644 {} +
# While packages are installed; replaced by the base's own file afterwards.
rm -f "$work/root/etc/resolv.conf" "$work/root/etc/hosts"
printf '127.0.0.1 localhost\n::1 localhost\n' > "$work/root/etc/hosts"

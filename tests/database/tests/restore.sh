# Restores a backup into a new data directory and asks a MariaDB on it for the table of the test.
# $1: root of a database server; $2: directory with backup.xb.zst
set -eu
root=$1 work=$2
exec unshare --mount --net sh -eu -c '
    root=$1 work=$2
    mount --bind "$root" "$root"
    mount -t tmpfs none "$root/tmp"
    mkdir "$root/tmp/data"
    mount --bind "$work" "$root/mnt"
    mount -t proc proc "$root/proc"
    mount -t tmpfs none "$root/dev"
    mknod -m 666 "$root/dev/null" c 1 3
    mknod -m 666 "$root/dev/urandom" c 1 9
    exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin sh -eu -c "
        cd /tmp/data
        zstd --quiet --decompress --stdout /mnt/backup.xb.zst | mbstream --extract
        mariadb-backup --prepare --target-dir=/tmp/data
        mariadbd --no-defaults --user=root --datadir=/tmp/data --socket=/tmp/socket --pid-file=/tmp/pid \
            --skip-networking --skip-grant-tables &
        server=\$!
        tries=0
        until mariadb --no-defaults --socket=/tmp/socket -N -e \"CHECKSUM TABLE app.precious\" >/tmp/answer; do
            tries=\$((tries + 1))
            [ \$tries -lt 300 ]
            sleep 0.2
        done
        kill \$server
        wait \$server || true
        cat /tmp/answer
    "
' sh "$root" "$work"

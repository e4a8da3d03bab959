# Makes a Debian tree of the packages in a repository, which has nothing else.
# $1: working directory with repository/; $2: release; $3: names of all packages; the rest: options of mmdebstrap
work=$1 release=$2 packages=$3
shift 3
# apt does not take every path for an address.
mount --bind "$work/repository" /mnt
TMPDIR=$work mmdebstrap --mode=root "$@" "--include=$packages" "$release" "$work/tree.tar" \
    "deb [trusted=yes] copy:/mnt ./"
mkdir "$work/root"
tar -C "$work/root" --numeric-owner --xattrs --xattrs-include='*' -xpf "$work/tree.tar"
umount /mnt
rm -r "$work/tree.tar" "$work/repository"
cd "$work/root"
# Nothing is installed from where this came from.
rm -rf etc/apt/sources.list var/lib/apt/lists/*
mkdir -p cache dev proc sys run tmp mnt
sync -f "$work"

# Unpacks a tree made by mmdebstrap and notes which package index it is of.
# $1: working directory with tree.tar
work=$1
mkdir "$work/root"
tar -C "$work/root" --numeric-owner --xattrs --xattrs-include='*' -xpf "$work/tree.tar"
rm "$work/tree.tar"
cd "$work/root"
mkdir -p cache dev proc sys run tmp mnt

# The newest date of the index is the time that everything built from it carries.
: > "$work/epoch"
for release in var/lib/apt/lists/*Release; do
    [ -e "$release" ] || continue
    date -u -d "$(sed -n 's/^Date: //p;/^Date: /q' "$release")" +%s >> "$work/epoch"
    sed -n '/^Date: /p;/^Codename: /p;/^Suite: /p' "$release" >> "$work/index"
done
sort -n "$work/epoch" | tail -n 1 > "$work/epoch.newest"
mv "$work/epoch.newest" "$work/epoch"
sync -f "$work"

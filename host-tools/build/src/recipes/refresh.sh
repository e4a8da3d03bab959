# Fetches the mirror's package index, away from the tree's own. Runs in the tools tree.
# $1: working directory
work=$1
mkdir -p "$work/lists/partial" "$work/cache"
touch /etc/resolv.conf
mount --bind "$work/resolv.conf" /etc/resolv.conf
apt-get update --quiet -o APT::Sandbox::User=root -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" \
    -o APT::Update::Error-Mode=any
for release in "$work"/lists/*Release; do
    sed -n '/^Date: /p;/^Codename: /p;/^Suite: /p' "$release" >> "$work/index"
done

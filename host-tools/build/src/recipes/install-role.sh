# Runs with the role's root as its root directory.
# $1: working directory with debs/ and files/; lists in SERVICES, MASKED, REMOVE
work=$1

printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
set -- "$work"/debs/*.deb
if [ -e "$1" ]; then
    apt-get install --yes --quiet --no-install-recommends --no-remove \
        -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io "$@"
fi
rm /usr/sbin/policy-rc.d

rm -f /etc/resolv.conf /etc/hosts
cp -a "$work/files/." /
if [ -e "$work/app.tar" ]; then
    mkdir -p /srv/app
    tar -C /srv/app --numeric-owner -xpf "$work/app.tar"
    rm "$work/app.tar"
fi
systemd-sysusers
[ -z "$SERVICES" ] || systemctl enable $SERVICES
[ -z "$MASKED" ] || systemctl mask $MASKED

# Nobody becomes anybody else here.
find / -xdev \( -path /cache -o -path /proc -o -path /dev -o -path /run -o -path /tmp \) -prune -o \
    -type f -perm /6000 -exec chmod a-s {} +

# Nothing that a host must have of its own, nothing that changes from build to build.
for pattern in $REMOVE; do rm -rf $pattern; done
rm -rf /etc/machine-id /etc/hostname /var/lib/dbus/machine-id /var/lib/systemd/random-seed
rm -rf /etc/apt/apt.conf.d/99mmdebstrap /var/lib/apt/lists/* /var/cache/* /var/backups/* /var/tmp/*
rm -rf /etc/*- /var/lib/dpkg/*-old
find /root -mindepth 1 -delete
find /var/log -type f -delete
mkdir -p /efi /etc/systemd /var/lib/private /var/cache/private
chmod 700 /var/lib/private /var/cache/private
touch /etc/machine-id /etc/hostname
# Tells systemd that /etc and /var match /usr: it would otherwise bring them up to date on every boot.
touch /etc/.updated /var/.updated
find / -xdev \( -path /cache -o -path /proc -o -path /dev -o -path /run -o -path /tmp \) -prune -o \
    -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

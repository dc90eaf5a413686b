#!/usr/bin/env bash
# Slurm with accounting, and Apptainer, onto a bare Debian 12 machine (amd64, root). Does nothing where they are there.
# Apptainer is in no Debian release yet, so it comes from Debian's unstable distribution, with libraries of its own.
set -euo pipefail

prefix=${1:?usage: install.sh FOLDER, where Apptainer goes}
packages=(slurm-wlm slurmdbd munge mariadb-server mmdebstrap squashfs-tools squashfuse fuse2fs fuse-overlayfs uidmap patchelf)
libraries=(libc6 libseccomp2 libsqlite3-0)
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=600)

refuse() {
    echo "install.sh: $1" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || refuse "needs root, to install packages and to start the daemons"
[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || refuse "needs Debian 12 on amd64"
mkdir -p "$(dirname "$prefix")"
exec 9>"$prefix.lock" && flock 9 # one at a time on this machine

if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    "${apt[@]}" update
    # The services are started by the tests, not by the packages.
    printf '#!/bin/sh\nexit 101\n' >/tmp/policy-rc.d.$$
    [ -e /usr/sbin/policy-rc.d ] || { install -m 755 /tmp/policy-rc.d.$$ /usr/sbin/policy-rc.d; made_policy=1; }
    rm /tmp/policy-rc.d.$$
    "${apt[@]}" install -y --no-install-recommends "${packages[@]}" >/dev/null
    [ -z "${made_policy:-}" ] || rm /usr/sbin/policy-rc.d
fi

for name in n1 n2 "$(hostname)"; do
    getent hosts "$name" >/dev/null || echo "127.0.0.1 $name" >>/etc/hosts
done
unshare --user --map-root-user true || refuse "needs user namespaces (sysctl user.max_user_namespaces), for Apptainer"

[ ! -x "$prefix/bin/apptainer" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

# An index of its own for unstable, at the address where this machine finds Debian anyway.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' | head -1)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$work/lists/partial" "$work/files" "$work/root" "$work/none"
echo "deb [signed-by=$keyring] $mirror unstable main" >"$work/unstable.list"
unstable=(
    -o "Dir::State::lists=$work/lists" -o "Dir::Etc::sourcelist=$work/unstable.list"
    -o "Dir::Etc::sourceparts=$work/none" -o APT::Sandbox::User=root
)
"${apt[@]}" "${unstable[@]}" update
(cd "$work/files" && "${apt[@]}" "${unstable[@]}" download apptainer "${libraries[@]}")
for package in "$work"/files/*.deb; do
    dpkg-deb --extract "$package" "$work/root"
done

# Nothing of it meets the machine's own libraries: its programs name the loader and the folder that came along.
mkdir -p "$prefix"/{bin,etc,lib/x86_64-linux-gnu,var/lib/apptainer/mnt/session,lib/var/lib/apptainer/mnt/session}
find "$work/root" -name '*.so*' -path '*x86_64-linux-gnu*' -not -path '*/gconv/*' -exec cp -a {} "$prefix/lib/" \;
for program in /usr/bin/apptainer /usr/lib/x86_64-linux-gnu/apptainer/bin/starter; do
    patchelf --set-interpreter "$prefix/lib/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$prefix/lib" "$work/root$program"
done
cp -a "$work/root/etc/apptainer" "$prefix/etc/"
cp -a "$work/root/usr/lib/x86_64-linux-gnu/apptainer" "$prefix/lib/x86_64-linux-gnu/"
install -m 755 "$work/root/usr/bin/apptainer" "$prefix/bin/apptainer" # last: tells that all is there
"$prefix/bin/apptainer" --version

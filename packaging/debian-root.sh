#!/bin/bash
# debian-root.sh ROOT: a fresh Debian with systemd below ROOT, for tests that install the packages.
# Prints the name of its suite: this machine's, if that is Debian. The first time debootstrap makes
# it; it is kept in target/debian-root. DEBIAN_MIRROR
# names another mirror than debootstrap's own. Needs root.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
readonly ROOT=$1 KEPT=${CARGO_TARGET_DIR:-$top/target}/debian-root
suite=bookworm
if [ "$(. /etc/os-release && echo "$ID")" = debian ]; then
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
fi
readonly suite BASE=$KEPT/$suite-4.tar

make_base() {
    echo "-- making a Debian $suite root (kept in $BASE)"
    mkdir -p "$KEPT"
    rm -rf "$ROOT" "$BASE"
    debootstrap --variant=minbase \
        --include=systemd,libnss-systemd,udev,iproute2,procps,curl,netcat-openbsd,sudo,openssh-client,python3,uhubctl \
        "$suite" "$ROOT" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$KEPT/debootstrap.log" 2>&1 ||
        { tail -n 20 "$KEPT/debootstrap.log"; exit 1; }
    # Debian's own packages, to upgrade from; without their libraries, which nothing here runs.
    mkdir -p "$ROOT/root/debian"
    chroot "$ROOT" sh -c 'cd /root/debian && apt-get -qq -o APT::Sandbox::User=root download pdudaemon pdudaemon-client' ||
        echo "Debian $suite has no pdudaemon to upgrade from"
    chroot "$ROOT" apt-get clean
    tar -C "$ROOT" -cf "$BASE.new" . && mv "$BASE.new" "$BASE"
}

{
    "$top/packaging/need.sh" debootstrap
    [ -e "$BASE" ] || make_base
    rm -rf "$ROOT"
    mkdir -p "$ROOT"
    tar -C "$ROOT" -xf "$BASE"
    # What the installer of a machine writes.
    printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$ROOT/etc/hosts"
} >&2
echo "$suite"

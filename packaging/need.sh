#!/bin/sh
# need.sh PACKAGE...: makes sure that these Debian packages are installed. As root, or through sudo,
# it installs what is missing; otherwise it says the one command to type. Services that come with
# them are neither started nor enabled: the tests start programs of their own.
set -eu

missing=
for package in "$@"; do
    dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "these programs are needed, by the names of their Debian packages:$missing" >&2
    exit 1
fi

if [ "$(id -u)" -eq 0 ]; then
    sudo=
elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    sudo=sudo
    echo "installing$missing through sudo"
else
    echo "this is needed first; as root, type:" >&2
    echo "    apt-get update && apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

units_before=$(systemctl list-unit-files --type=service --no-legend --plain 2>/dev/null | cut -d' ' -f1 || true)
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
    # shellcheck disable=SC2064 # $sudo and $policy do not change.
    trap "$sudo rm -f $policy" EXIT
fi

install() {
    # shellcheck disable=SC2086 # a list of words
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 \
        install -y --no-install-recommends $missing </dev/null
}
if ! install; then
    $sudo apt-get -qq update </dev/null
    install
fi

# Not on: what a test needs is no service of this machine's from now on.
if [ -d /run/systemd/system ]; then
    systemctl list-unit-files --type=service --no-legend --plain | cut -d' ' -f1 | while read -r unit; do
        printf '%s\n' "$units_before" | grep -qxF "$unit" ||
            $sudo systemctl disable "$unit" >/dev/null 2>&1 || true
    done
fi

#!/bin/bash
# test-image.sh [ARCH]: unpacks the archive of `make image` and runs it as a container runtime does, in
# namespaces of its own: as process 1, as a user without rights, on a root that cannot be written to, without
# /tmp and without /etc/nsswitch.conf. Then it switches through it. Needs root (or sudo); the only network is
# the namespace's own loopback.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/packaging/within.sh"
target=${CARGO_TARGET_DIR:-$top/target}
readonly WORK=$target/image/test ROOT=$target/image/test/root CONTAINER=$top/packaging/container/run.py
passed=0

if [ "${1:-}" != --inside ]; then
    if [ "$(id -u)" -ne 0 ]; then
        exec sudo CARGO_TARGET_DIR="$target" "$0" "$@"
    fi
    arch=${1:-$(uname -m)}
    "$top/packaging/need.sh" iproute2 python3 util-linux
    # A network and processes of its own: nothing outlives this script.
    exec unshare --net --pid --mount --fork --kill-child --mount-proc "$0" --inside "$arch"
fi
arch=$2

fail() {
    echo "FAILED: $*" >&2
    cat "$WORK"/*.log >&2 2>/dev/null || true
    echo "$passed passed, 1 failed"
    exit 1
}

# check TEXT EXPECTED COMMAND...: the command succeeds and prints this, where * stands for any text.
check() {
    local text=$1 expected=$2 got
    shift 2
    got=$("$@" 2>&1) || fail "$text: \`$*\` ended with status $?: $got"
    # shellcheck disable=SC2053 # a pattern
    [[ $got == $expected ]] || fail "$text: expected \`$expected\`, got \`$got\`"
    passed=$((passed + 1))
    echo "ok: $text"
}

ends() { ! kill -0 "$1" 2>/dev/null; }

ip link set lo up
rm -rf "$WORK"
mkdir -p "$WORK"

# ---- the archive -------------------------------------------------------------------------------

python3 "$top/packaging/container/image.py" "$arch" "$target/static/$arch" "$top" "$WORK/again.tar"
archive=$(echo "$target"/image/pdudaemon-*-"$arch".tar)
check "the same programs give the same image, to the byte" "" cmp "$archive" "$WORK/again.tar"
check "every hash of the archive is right, and its layer unpacks" "unpacked" python3 "$CONTAINER" unpack "$archive" "$ROOT"

# ---- the image as it comes ---------------------------------------------------------------------

# run NAME [WORDS...]: the entrypoint of the image as process 1 of a container.
run() {
    local name=$1
    shift
    python3 "$CONTAINER" run "$archive" "$ROOT" "$WORK" "$@" >"$WORK/$name.log" 2>&1 &
    container=$!
}

# inside COMMAND...: a program of the image in the running container.
inside() { python3 "$CONTAINER" exec "$archive" "$ROOT" "$WORK" "$@"; }

healthy() { python3 "$CONTAINER" health "$archive" "$ROOT" "$WORK"; }

began=$SECONDS
run image
within 60 healthy || fail "the container does not become healthy"
echo "-- healthy after $((SECONDS - began)) s"
check "its health check says so" "ok" healthy
check "an outlet switches by the client of the image" "demo:3  on" inside /usr/bin/pduclient on demo:3
check "and by a request from outside" "OK - accepted request" \
    python3 -c 'import urllib.request; print(urllib.request.urlopen(
        "http://127.0.0.1:16421/power/control/off?hostname=demo&port=3").read().decode(), end="")'
child=$(cat "/proc/$container/task/$container/children")
child=${child%% *}
check "it runs as a user without rights" "16421" awk '/^Uid/ { print $2 }' "/proc/$child/status"
check "it is process 1" "1" awk '/^NSpid/ { print $NF }' "/proc/$child/status"
kill -TERM "$child"
within 60 ends "$container" || fail "the container does not stop"
wait "$container" || fail "the container stops with status $?"
check "it stops as asked, and its log has the time of UTC where there is no other" \
    "$(date -u +%Y-%m-%d) *pdud*stopped" tail -n 1 "$WORK/image.log"

# ---- names and times without a distribution ----------------------------------------------------

# A name server with one name, and a second daemon in its place.
python3 -c '
import socket, struct
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
while True:
    question, client = server.recvfrom(512)
    is_a = question[-4:-2] == b"\0\1" and b"\3pdu\4test\0" in question
    is_ours = b"\3pdu\4test\0" in question
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\x09" if is_a else b""
    end = 12 + question[12:].index(b"\0") + 5
    head = question[:2] + (b"\x85\x80" if is_ours else b"\x85\x83") + b"\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
    server.sendto(head + question[12:end] + answer, client)
' &
mkdir -p "$WORK/config" "$WORK/other"
cat >"$WORK/other/pdudaemon.conf" <<'CONFIG'
{"daemon": {"hostname": "127.0.0.9", "access": {"hosts": ["pdu.test"]}}, "pdus": {"rack1": {"driver": "simulated"}}}
CONFIG
cat >"$WORK/config/pdudaemon.conf" <<'CONFIG'
{"daemon": {"hostname": "127.0.0.1"}, "pdus": {
    "there": {"driver": "another-pdudaemon", "ip": "pdu.test", "pdu": "rack1", "retries": 1},
    "nowhere": {"driver": "another-pdudaemon", "ip": "no.test", "pdu": "rack1", "retries": 1}}}
CONFIG
# An empty root: the program, its config, and who to ask for names. Another root than the image's.
readonly EMPTY=$WORK/empty
mkdir -p "$EMPTY/etc"
cp "$target/static/$arch/pdudaemon" "$WORK/config/pdudaemon.conf" "$EMPTY/"
echo "nameserver 127.0.0.1" >"$EMPTY/etc/resolv.conf"
"$target/static/$arch/pdudaemon" --conf "$WORK/other/pdudaemon.conf" >"$WORK/other.log" 2>&1 &
mkdir "$EMPTY/state"
chown 16421:16421 "$EMPTY/state"
env -i STATE_DIRECTORY=/state TZ=XYZ-7:30 \
    "$(command -v chroot)" --userspec=16421:16421 "$EMPTY" /pdudaemon --conf /pdudaemon.conf >"$WORK/empty.log" 2>&1 &
daemon=$!
# shellcheck disable=SC2317 # called by within and check
in_empty() { env -i "$(command -v chroot)" --userspec=16421:16421 "$EMPTY" /pdudaemon "$@" --conf /pdudaemon.conf; }
within 60 in_empty --health || fail "the daemon does not serve in an empty root"
check "it serves in an empty root" "ok" in_empty --health
ask() {
    python3 -c 'import sys, urllib.request, urllib.error
try:
    print(urllib.request.urlopen("http://127.0.0.1:16421/power/control/" + sys.argv[1]).read().decode(), end="")
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode(), end="")' "$1"
}
check "a name of the name server is looked up, and its PDU switched" "OK - accepted request" ask "on?hostname=there&port=2"
check "the other daemon has switched it" "*rack1 2 on: ok*" cat "$WORK/other.log"
check "a name that nobody knows is told" "503 *cannot look up no.test*" ask "on?hostname=nowhere&port=1"
check "the log has the time of TZ" "right" python3 -c '
import datetime, sys
line = next(line for line in open(sys.argv[1]) if "there 2 on" in line)
logged = datetime.datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S")
there = datetime.datetime.utcnow() + datetime.timedelta(hours=7, minutes=30)
late = (there - logged).total_seconds()
print("right" if 0 <= late < 600 else f"{late} s late")' "$WORK/empty.log"
kill -TERM "$daemon"
within 60 ends "$daemon" || fail "the daemon does not stop"
check "it needs no /tmp, /dev or /proc, and leaves none behind" "etc pdudaemon pdudaemon.conf state" \
    sh -c "ls '$EMPTY' | tr '\n' ' ' | sed 's/ \$//'"

echo "$passed passed, 0 failed"

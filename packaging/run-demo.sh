#!/bin/sh
# Starts the daemon on share/demo.conf in the foreground and says what to try. `make run` does this.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
: "${PDUDAEMON:=$top/target/release/pdudaemon}" "${PDUCLIENT:=$top/target/release/pduclient}" "${DEMO_PORT:=16421}"

client=$PDUCLIENT
here=$(pwd)/
client=${client#"$here"}
at=127.0.0.1:$DEMO_PORT
if curl -s -o /dev/null --max-time 2 "http://$at/" 2>/dev/null; then
    echo "Something else listens on $at already. Stop it, or take another port:  make run DEMO_PORT=16422" >&2
    exit 1
fi
cat <<END

Simulated PDUs on $at; Ctrl-C stops the daemon. Its page: http://$at/  In another terminal, try:

    $client list --daemon $at                    # PDUs; with a name its outlets
    $client state --daemon $at rack1:1-8
    curl -fsS 'http://$at/power/control/get-status?hostname=rack1&port=1'
    curl -fsS 'http://$at/metrics'
    curl -fsS 'http://$at/power/control/on?hostname=rack1&port=1'
    curl -fsS 'http://$at/power/control/reboot?hostname=rack1&port=1&delay=2'
    curl -fsS 'http://$at/power/control/off?alias=board7'
    curl -fsS 'http://$at/power/control/reboot?alias=server&delay=1'       # a board with two power supplies
    curl -sS  'http://$at/power/control/on?hostname=broken&port=2'         # a PDU that refuses
    $client --daemon $at --hostname rack2 --port 5 --command reboot --delay 1
    $client --daemon $at --hostname flaky --port 1 --command on
    printf 'rack1 3 on' | nc -N 127.0.0.1 $DEMO_PORT

END
if [ "$DEMO_PORT" = 16421 ]; then
    exec "$PDUDAEMON" --conf "$top/share/demo.conf"
fi
sed "s/\"port\": 16421/\"port\": $DEMO_PORT/" "$top/share/demo.conf" | "$PDUDAEMON" --conf -

#!/bin/sh
# Installs what the tests need: the programs that they start as peers, and a Python environment
# with the original pdudaemon, a Modbus server and a tester of HTTP APIs in target/test-venv.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}

"$top/packaging/need.sh" curl groff-base inetutils-telnet ipmitool mosquitto mosquitto-clients netcat-openbsd nginx-light openipmi \
    openssh-client openssh-server openssl python3 python3-requests python3-systemd python3-venv snmp snmpd socat

# Prometheus, which reads the metrics. Its package is only unpacked: installed, it would be started.
prometheus=$target/prometheus
if [ ! -x "$prometheus/usr/bin/prometheus" ]; then
    mkdir -p "$prometheus"
    (cd "$prometheus" && apt-get -qq download prometheus && dpkg -x prometheus_*.deb . && rm prometheus_*.deb)
fi

# Fence agents of clusters. Their package is only unpacked, for it depends on the libraries of a dozen clouds.
"$top/packaging/need.sh" python3-pexpect python3-pycurl
agents=$target/fence-agents
if [ ! -x "$agents/usr/sbin/fence_dummy" ]; then
    mkdir -p "$agents"
    (cd "$agents" && apt-get -qq download fence-agents && dpkg -x fence-agents_*.deb . && rm fence-agents_*.deb)
fi

# The compat suite compares with these very versions.
wanted="pdudaemon==1.1.1 pymodbus==3.16.1 schemathesis==4.32.5"
venv=$target/test-venv
if [ "$(cat "$venv/.installed" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$venv"
    mkdir -p "$target"
    # Debian's own Python has the modules that were just installed. Its systemd module is used: the
    # one of PyPI would have to be compiled.
    /usr/bin/python3 -m venv --system-site-packages "$venv"
    # shellcheck disable=SC2086 # a list of words
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check $wanted </dev/null
    echo "$wanted" >"$venv/.installed"
fi

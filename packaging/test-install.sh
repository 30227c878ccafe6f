#!/bin/bash
# Install test: puts the packages from target/deb into a fresh Debian root that runs systemd in
# namespaces of its own, and uses them as a person would: install, switch, harden, reload, upgrade
# from Debian's Python package, purge. `make test-deb` runs it. Needs root (or sudo).
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/packaging/within.sh"
target=${CARGO_TARGET_DIR:-$top/target}
if [ "$(id -u)" -ne 0 ]; then
    exec sudo CARGO_TARGET_DIR="$target" "$0" "$@"
fi

# What `systemd-analyze security` may say at most, in tenths: of the unit as it is, and with
# no-local-hardware.conf.
readonly UNIT_EXPOSURE=16 NO_HARDWARE_EXPOSURE=11
readonly WORK=$target/deb-test
readonly ROOT=$WORK/root
passed=0
suite=
init=
cgroups=()

say() { printf -- '-- %s\n' "$*"; }
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    if [ -n "$init" ]; then
        inside journalctl --no-pager -n 40 >&2 || true
    fi
    echo "$passed passed, 1 failed"
    exit 1
}

# check TEXT COMMAND...: the command succeeds.
check() {
    local text=$1 output
    shift
    output=$("$@" 2>&1) || fail "$text: \`$*\` ended with status $?: $output"
    passed=$((passed + 1))
    echo "ok: $text"
}

# same TEXT EXPECTED COMMAND...: the command prints this.
same() {
    local text=$1 expected=$2 got
    shift 2
    got=$("$@" 2>&1) || true
    [ "$got" = "$expected" ] || fail "$text: expected \`$expected\`, got \`$got\`"
    passed=$((passed + 1))
    echo "ok: $text"
}

# ---- the root ----------------------------------------------------------------------------------

unpack_root() {
    suite=$("$top/packaging/debian-root.sh" "$ROOT")
    cp "$target"/deb/*.deb "$ROOT/root/"
}

# ---- systemd in namespaces of its own ----------------------------------------------------------

boot() {
    # Every cgroup it makes is below one of these, so that none is left behind.
    local hierarchy
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/{systemd,unified,devices,pids}; do
        [ -e "$hierarchy/cgroup.procs" ] || continue
        mkdir -p "$hierarchy/pdudaemon-test-$$"
        cgroups+=("$hierarchy/pdudaemon-test-$$")
    done
    (
        for cgroup in "${cgroups[@]}"; do
            echo $BASHPID >"$cgroup/cgroup.procs"
        done
        exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child "$0" --init
    ) </dev/null >"$WORK/boot.log" 2>&1 &
    local unshare=$!
    init_of_unshare() { init=$(cat "/proc/$unshare/task/$unshare/children" 2>/dev/null) && init=${init%% *} && [ -n "$init" ]; }
    init_of_unshare_runs() {
        [ "$(cat "/proc/$init/comm" 2>/dev/null)" = systemd ] && inside systemctl is-active basic.target
    }
    within 30 init_of_unshare && within 120 init_of_unshare_runs ||
        { cat "$WORK/boot.log" >&2; init=; fail "systemd does not start in namespaces on this machine"; }
}

# The first process of those namespaces. It gets what a container gets: no kernel settings, no
# modules, no clock, and no devices but the usual few.
init() {
    mount --bind "$ROOT" "$ROOT"
    mount -t proc proc "$ROOT/proc"
    mount --bind "$ROOT/proc/sys" "$ROOT/proc/sys"
    mount -o remount,ro,bind "$ROOT/proc/sys"
    mount -t sysfs -o ro sysfs "$ROOT/sys"
    mount -t tmpfs -o mode=755 tmpfs "$ROOT/run"
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mount -t cgroup2 cgroup2 "$ROOT/sys/fs/cgroup"
    else
        mount -t tmpfs -o mode=755 tmpfs "$ROOT/sys/fs/cgroup"
        mkdir "$ROOT/sys/fs/cgroup/systemd"
        mount -t cgroup -o none,name=systemd cgroup "$ROOT/sys/fs/cgroup/systemd"
    fi
    ip link set lo up
    # Not chroot: a process in one could not make the user namespace of PrivateUsers.
    mkdir -p "$ROOT/old-root"
    cd "$ROOT"
    pivot_root . old-root
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=pdudaemon-test \
        setpriv --bounding-set -sys_module,-sys_boot,-sys_time,-sys_rawio,-syslog,-mac_admin,-mac_override,-audit_control,-wake_alarm \
        sh -c 'umount -l /old-root && rmdir /old-root &&
            exec /lib/systemd/systemd --log-target=console --show-status=no systemd.unit=basic.target'
}

inside() {
    nsenter -t "$init" --mount --pid --net --uts --ipc --cgroup --root \
        env -i -C / PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 timeout -k 5 300 "$@" </dev/null
}

halt() {
    if [ -n "$init" ]; then
        kill -9 "$init" 2>/dev/null || true
        while kill -0 "$init" 2>/dev/null; do sleep 0.05; done
        init=
    fi
    local cgroup
    for cgroup in "${cgroups[@]}"; do
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && break
            sleep 0.1
        done
    done
    cgroups=()
}

clean_up() {
    halt
    rm -rf "$ROOT"
}

# ---- the tests ---------------------------------------------------------------------------------

daemon_pid() { inside systemctl show -P MainPID pdudaemon.service; }
status_of_daemon() { inside sh -c "sed -n 's/^$1:[[:space:]]*//p' /proc/\$(systemctl show -P MainPID pdudaemon.service)/status"; }
restart() { inside systemctl daemon-reload && inside systemctl restart pdudaemon.service; }

# tenths DROP-IN: the exposure of the unit in tenths.
exposure() {
    local level
    level=$(inside systemd-analyze security --offline=yes --no-pager "$1" |
        sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p')
    awk -v level="$level" 'BEGIN { printf "%d", level * 10 + 0.5 }'
}
exposed_at_most() {
    local got
    got=$(exposure "$2")
    echo "exposure: $((got / 10)).$((got % 10))"
    [ "$got" -le "$1" ]
}

drop_in() {
    inside sh -c "rm -rf /etc/systemd/system/pdudaemon.service.d; mkdir /etc/systemd/system/pdudaemon.service.d
        cp $1 /etc/systemd/system/pdudaemon.service.d/"
    restart
}
no_drop_in() {
    inside rm -rf /etc/systemd/system/pdudaemon.service.d
    restart
}

switches() {
    same "$1: pduclient" "Command sent successfully." \
        inside pduclient --daemon localhost --hostname demo --port 1 --command on
    same "$1: the outlet is on" "on" \
        inside curl -fsS 'http://localhost:16421/power/control/get-status?hostname=demo&port=1'
}

test_fresh() {
    say "fresh installation"
    check "the packages install" inside sh -c 'dpkg -i /root/pdudaemon_*.deb /root/pdudaemon-client_*.deb'
    same "dpkg is content" "" inside dpkg --audit
    check "the service came up by itself" inside systemctl is-active pdudaemon.service
    check "and is on at boot" inside systemctl is-enabled pdudaemon.service

    same "the user is a system user with a home, without a shell" "pdudaemon /var/lib/pdudaemon /usr/sbin/nologin" \
        inside sh -c 'getent passwd pdudaemon | awk -F: "\$3 < 1000 { print \$1, \$6, \$7 }"'
    same "and a member of dialout" "pdudaemon dialout" inside id -nG pdudaemon
    same "the configuration is the group's to read, and nobody else's" "root:pdudaemon 640" \
        inside stat -c '%U:%G %a' /etc/pdudaemon/pdudaemon.conf
    same "the programs are root's" "root:root 755 root:root 755 " \
        inside sh -c 'stat -c "%U:%G %a" /usr/sbin/pdudaemon /usr/bin/pduclient | tr "\n" " "'
    same "the state directory is the user's" "pdudaemon:pdudaemon 750" inside stat -c '%U:%G %a' /var/lib/pdudaemon
    same "so is the runtime directory" "pdudaemon:pdudaemon 700" inside stat -c '%U:%G %a' /run/pdudaemon
    for file in /usr/share/man/man8/pdudaemon.8.gz /usr/share/man/man5/pdudaemon.conf.5.gz /usr/share/man/man5/pdudaemon-profile.5.gz \
        /usr/share/bash-completion/completions/pdudaemon /usr/share/bash-completion/completions/pduclient \
        /usr/share/zsh/vendor-completions/_pdudaemon /usr/share/zsh/vendor-completions/_pduclient \
        /usr/share/doc/pdudaemon/examples/demo.conf /usr/share/doc/pdudaemon/{clients,config,devices,security}.md; do
        check "$file is there" inside sh -c "dpkg -L pdudaemon pdudaemon-client | grep -qx $file"
    done
    if [ -e "$top/share/60-pdudaemon.rules" ]; then
        check "the udev rules are there" inside test -s /lib/udev/rules.d/60-pdudaemon.rules
    fi

    check "the configuration passes its check" inside pdudaemon --check --strict
    # The pair that the example of TLS names; it is its own authority.
    mkdir -m 700 "$ROOT/root/tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=pdud.lab \
        -addext subjectAltName=DNS:pdud.lab -keyout "$ROOT/root/tls/pdud.key" -out "$ROOT/root/tls/pdud.crt" 2>/dev/null
    cp "$ROOT/root/tls/pdud.crt" "$ROOT/root/tls/lab-ca.crt"
    # The agent that an example names.
    local parameters="<parameter name='ip'><content type='string'/></parameter><parameter name='ipport'><content type='integer'/></parameter>"
    printf '#!/bin/sh\necho "<resource-agent><parameters>%s</parameters></resource-agent>"\n' "$parameters" \
        >"$ROOT/usr/sbin/fence_powerman"
    chmod 755 "$ROOT/usr/sbin/fence_powerman"
    local example
    for example in $(inside sh -c 'cd /usr/share/doc/pdudaemon/examples && grep -l "\"pdus\"" *.conf'); do
        # A copy that not everybody may read: some hold passwords, which is a warning otherwise.
        inside install -m 600 "/usr/share/doc/pdudaemon/examples/$example" /root/example.conf
        check "the example $example passes its check" inside pdudaemon --check --strict --conf /root/example.conf
    done
    check "systemd has no complaint about the unit" no_complaint
    check "the unit is exposed no more than it says" exposed_at_most $UNIT_EXPOSURE pdudaemon.service

    say "requests"
    switches "as installed"
    same "over 127.0.0.1" "OK - accepted request" \
        inside curl -fsS 'http://127.0.0.1:16421/power/control/reboot?hostname=demo&port=2&delay=0.1'
    same "by alias, with pduclient over HTTP" "Command sent successfully." \
        inside pduclient -H --daemon 127.0.0.1 --alias demo-board --command off
    same "the legacy line through nc" "ack" inside sh -c "printf 'demo 3 on' | nc -N 127.0.0.1 16421"
    same "a refusal has exit status 127" "127" \
        inside sh -c 'pduclient --daemon localhost --hostname demo --port 99 --command on >/dev/null; echo $?'
    check "--drive as the service's user" inside sudo -u pdudaemon pdudaemon --drive --hostname demo --port 4 --request on
    check "--drive as root" inside pdudaemon --drive --hostname demo --port 5 --request on
    check "and the daemon goes on with that outlet" inside pduclient --daemon localhost --hostname demo --port 5 --command off
    check "the journal has the request" within 10 journal_has 'demo 3 on: ok'
    check "by its field too" within 10 journal_has 'demo 3 on: ok' PDU=demo OUTLET=3
    check "what differs for upgraders is there" inside sh -c 'test -s /usr/share/doc/pdudaemon/differences.md && test -s /usr/share/doc/pdudaemon/NEWS.Debian.gz'
    same "nobody else can reach it: it listens on loopback only" "" \
        inside sh -c 'ss -Hltn | grep 16421 | grep -v -e "127\.0\.0\.1:" -e "\[::1\]:" || true'

    say "programs as drivers"
    cat >"$ROOT/usr/lib/python3/dist-packages/lab.py" <<'END'
class Relays:
    def __init__(self, hostname, settings):
        self.folder = settings["folder"]

    def handle(self, request, port_number):
        with open(f"{self.folder}/{port_number}", "w") as file:
            file.write(f"{request}\n")

    def _bombout(self):
        pass
END
    cp -p "$ROOT/etc/pdudaemon/pdudaemon.conf" "$ROOT/root/before.conf"
    cat >"$ROOT/etc/pdudaemon/pdudaemon.conf" <<'END'
{"daemon": {"hostname": "localhost", "port": 16421},
 "pdus": {
   "demo": {"driver": "simulated"},
   "class": {"driver": "python", "class": "lab:Relays", "folder": "/var/lib/pdudaemon"},
   "program": {"driver": "exec", "folder": "/var/lib/pdudaemon/relays", "names": ["left"],
               "command": ["python3", "/usr/share/doc/pdudaemon/examples/exec-driver.py"]}}}
END
    check "the daemon takes them" inside systemctl restart pdudaemon.service
    check "a class of the Python program switches" inside pduclient --daemon localhost --hostname class --port 3 --command on
    same "and has" "on" inside cat /var/lib/pdudaemon/3
    check "the example of exec switches" inside pduclient --daemon localhost --hostname program --port left --command on
    same "and has" "on" inside cat /var/lib/pdudaemon/relays/left
    check "they end with the daemon" inside sh -c 'systemctl stop pdudaemon.service && ! pgrep -u pdudaemon'
    cp -p "$ROOT/root/before.conf" "$ROOT/etc/pdudaemon/pdudaemon.conf"
    check "and the service runs again" inside systemctl start pdudaemon.service

    say "the running service"
    same "runs as its user" "pdudaemon" inside sh -c 'ps -o user= -p $(systemctl show -P MainPID pdudaemon.service)'
    same "without capabilities" "0000000000000000" status_of_daemon CapBnd
    same "without the way to new privileges" "1" status_of_daemon NoNewPrivs
    same "under a system call filter" "2" status_of_daemon Seccomp
    same "with a watchdog" "1min" inside systemctl show -P WatchdogUSec pdudaemon.service
    local pid
    pid=$(daemon_pid)
    check "reload" inside systemctl reload pdudaemon.service
    sleep 0.5
    same "reload keeps the process" "$pid" daemon_pid
    switches "after a reload"
    check "it is started again when it dies" inside sh -c "kill -9 $pid"
    check "within 30 seconds" within 30 restarted "$pid"
    switches "after a crash"
    check "it stops" inside systemctl stop pdudaemon.service
    same "with success" "success 0" inside sh -c 'echo $(systemctl show -P Result -P ExecMainStatus pdudaemon.service)'
    same "and leaves nothing in /run" "" inside sh -c 'ls -d /run/pdudaemon 2>/dev/null || true'
    check "it starts" inside systemctl start pdudaemon.service
}

no_complaint() {
    local said
    # There is no man in this root to show the pages with.
    said=$(inside systemd-analyze verify --man=no pdudaemon.service 2>&1 | grep pdudaemon || true)
    echo "$said"
    [ -z "$said" ]
}
journal_has() {
    local text=$1
    shift
    inside journalctl --no-pager -o cat -u pdudaemon.service "$@" | grep -qF "$text"
}
restarted() { [ "$(daemon_pid)" != "$1" ] && [ "$(daemon_pid)" != 0 ] && inside systemctl is-active pdudaemon.service; }

test_drop_ins() {
    say "drop-ins"
    local examples=/usr/share/doc/pdudaemon/examples
    cat >"$ROOT/etc/pdudaemon/pdudaemon.conf" <<'END'
{
    "daemon": {"hostname": "localhost", "state_directory": "/var/lib/pdudaemon"},
    "pdus": {
        "demo": {"driver": "simulated"},
        "tmp": {"driver": "localcmdline", "retries": 1, "cmd_on": "echo %s > /tmp/pdudaemon-was-here", "cmd_off": "true"},
        "home": {"driver": "localcmdline", "retries": 1, "cmd_on": ["/home/lab/relay", "%s"]},
        "sudo": {"driver": "localcmdline", "retries": 1, "cmd_on": "test \"$(sudo -n id -u)\" = 0", "cmd_off": "true"},
        "ssh": {"driver": "localcmdline", "retries": 1, "cmd_on": "ssh -V"},
        "state": {"driver": "localcmdline", "retries": 1, "cmd_on": "echo %s > $HOME/note && test -s /var/lib/pdudaemon/note"}
    }
}
END
    inside sh -c 'mkdir -p /home/lab; printf "#!/bin/sh\necho \$1 >/tmp/relay\n" >/home/lab/relay; chmod 755 /home/lab/relay
        echo "pdudaemon ALL=(root) NOPASSWD: /usr/bin/id" > /etc/sudoers.d/pdudaemon; chmod 440 /etc/sudoers.d/pdudaemon'
    no_drop_in
    on() { inside pduclient --daemon localhost --hostname "$1" --port 1 --command on; }
    refused() { ! on "$1"; }
    check "a script may write to its home" on state
    check "a script may run ssh" on ssh
    check "/tmp is the service's own" on tmp
    check "so nothing is seen of it" inside test ! -e /tmp/pdudaemon-was-here
    check "/home is hidden" refused home
    check "sudo does nothing" refused sudo
    inside sh -c 'rm -f /var/lib/pdudaemon/locks/*'
    no_drop_in
    check "a lock that root's --drive made" inside pdudaemon --drive --hostname demo --port 1 --request on
    check "does not keep the daemon out" on demo

    drop_in $examples/no-local-hardware.conf
    check "no-local-hardware.conf lowers the exposure" exposed_at_most $NO_HARDWARE_EXPOSURE pdudaemon.service
    switches "with no-local-hardware.conf"
    check "scripts run with it too" on state
    check "and ssh" on ssh

    drop_in $examples/local-scripts.conf
    check "local-scripts.conf is valid" no_complaint
    switches "with local-scripts.conf"
    check "/tmp is shared" on tmp
    check "and seen" inside test -s /tmp/pdudaemon-was-here
    check "/home is there" on home
    check "sudo works" on sudo
    inside rm -rf /etc/systemd/system/pdudaemon.service.d /etc/sudoers.d/pdudaemon
}

test_purge() {
    say "purge"
    check "the packages purge" inside dpkg --purge pdudaemon pdudaemon-client
    same "no process is left" "" inside sh -c 'pgrep -a pdudaemon || true'
    # The user stays, as Debian's packages do it: files elsewhere may be its.
    same "no file is left" "" inside sh -c 'find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /home -o -path /tmp -o -path /var/tmp -o -path /var/log \) -prune -o \( -name "*pdud*" -o -name "*pduc*" \) -print'
    same "no systemd state is left" "" inside sh -c 'ls -A /var/lib/systemd/deb-systemd-helper-enabled 2>/dev/null | grep pdu || true'
}

# Debian's 0.0.8, running (as a stand-in with its name: its Python libraries are not here), is
# upgraded; $1 is what the administrator did with the configuration.
test_upgrade() {
    say "upgrade from Debian's package, configuration $1"
    check "Debian's package installs" inside sh -c 'dpkg -i --force-depends /root/debian/*.deb'
    inside systemctl stop pdudaemon.service
    inside sh -c 'printf "#!/bin/sh\nexec sleep 100000\n" > /usr/sbin/pdudaemon; rm -rf /var/lib/pdudaemon /var/lib/private/pdudaemon; userdel pdudaemon 2>/dev/null; systemctl reset-failed pdudaemon.service || true'
    check "its service runs" inside systemctl start pdudaemon.service
    check "as a dynamic user of our name" inside sh -c 'getent passwd pdudaemon && ! grep -q ^pdudaemon: /etc/passwd'
    check "with its state in private/" inside touch /var/lib/private/pdudaemon/note
    if [ "$1" = changed ]; then
        cat >"$ROOT/etc/pdudaemon/pdudaemon.conf" <<'END'
{
    "daemon": {"hostname": "0.0.0.0", "port": 16421, "logging_level": "DEBUG", "listener": "http"},
    "pdus": {
        "lab": {"driver": "localcmdline", "cmd_on": "echo '%s on' >> /tmp/pdu", "cmd_off": "echo '%s off' >> /tmp/pdu"}
    },
    "aliases": {"board": {"hostname": "lab", "port": 1}}
}
END
    fi
    # The file as Debian's package brought it, but for a line end: dpkg keeps it as the administrator's.
    [ "$1" != kept ] || echo >>"$ROOT/etc/pdudaemon/pdudaemon.conf"
    local mode
    mode=$(inside stat -c '%U:%G %a' /etc/pdudaemon/pdudaemon.conf)
    check "the upgrade installs" inside sh -c 'dpkg -i --force-confold /root/pdudaemon_*.deb /root/pdudaemon-client_*.deb'
    same "dpkg is content" "" inside dpkg --audit
    check "the service runs" within 30 inside systemctl is-active pdudaemon.service
    check "as a user of /etc/passwd" inside grep -q ^pdudaemon: /etc/passwd
    check "the program is the new one" inside sh -c '/usr/sbin/pdudaemon --version | grep -q " 2\."'
    check "no Python file is left" inside sh -c '! ls -d /usr/lib/python3/dist-packages/pdudaemon*'
    check "the state came along" inside test -e /var/lib/pdudaemon/note
    same "and is the user's" "pdudaemon" inside stat -c %U /var/lib/pdudaemon/
    same "the configuration's owner and mode are as they were" "$mode" inside stat -c '%U:%G %a' /etc/pdudaemon/pdudaemon.conf
    case $1 in
        changed)
            same "the administrator's configuration works on" "OK - accepted request" \
                inside curl -fsS 'http://localhost:16421/power/control/reboot?alias=board&delay=0' ;;
        kept)
            same "Debian's configuration works on" "OK - accepted request" \
                inside curl -fsS 'http://localhost:16421/power/control/on?hostname=test&port=1'
            same "for pduclient, too" "Command sent successfully." \
                inside pduclient -H --daemon localhost --hostname test --port 1 --command off
            same "what cannot work in it is an error of its check" "1" \
                inside sh -c 'pdudaemon --check >/dev/null 2>/root/check; echo $?'
            check "which names the key" inside grep -q 'pdus\.energenie\.device' /root/check ;;
        *)
            switches "with the new default configuration" ;;
    esac
    check "it purges" inside sh -c 'dpkg --purge pdudaemon pdudaemon-client'
    same "and leaves nothing" "" inside sh -c 'ls -d /etc/pdudaemon /var/lib/pdudaemon /var/lib/private/pdudaemon 2>/dev/null || true'
}

# Every option of the programs stands in the man pages and completions.
test_documents() {
    say "documents"
    local program option page
    for program in pdudaemon pduclient; do
        page=$(ls "$top"/share/man/$program.[18])
        for option in $("$target/release/$program" --help | sed -nE 's/^ +(-., +)?(--[a-z-]+).*/\2/p' | sort -u); do
            check "$program $option is in the man page" grep -qE -- "Fl .*${option#-}( |\$)" "$page"
            check "$program $option is in the bash completion" grep -qF -- "$option" "$top/share/completions/$program.bash"
            check "$program $option is in the zsh completion" grep -qF -- "$option" "$top/share/completions/_$program"
        done
        check "$program's man page has no fault" no_output groff -mdoc -Tutf8 -ww -z "$page"
    done
    for page in pdudaemon.conf.5 pdudaemon-profile.5; do
        check "$page has no fault" no_output groff -mdoc -Tutf8 -ww -z "$top/share/man/$page"
    done
}
no_output() {
    local said
    said=$("$@" 2>&1)
    echo "$said"
    [ -z "$said" ]
}

main() {
    "$top/packaging/need.sh" groff-base iproute2 lintian openssl util-linux
    ls "$target"/deb/pdudaemon_*.deb "$target"/deb/pdudaemon-client_*.deb >/dev/null ||
        { echo "there are no packages in $target/deb: run \`make deb\` first" >&2; exit 1; }
    mkdir -p "$WORK"
    trap clean_up EXIT
    trap 'exit 1' INT TERM

    test_documents
    say "lintian"
    check "lintian has no errors and no warnings" lintian --allow-root --fail-on error,warning "$target"/deb/*.changes

    unpack_root
    boot
    test_fresh
    test_drop_ins
    test_purge
    if ls "$ROOT"/root/debian/*.deb >/dev/null 2>&1; then
        inside userdel pdudaemon # as on a machine that has never had this package
        test_upgrade unchanged
        test_upgrade changed
        test_upgrade kept
    else
        say "no upgrade test: Debian $suite has no pdudaemon"
    fi
    echo "$passed passed, 0 failed"
}

if [ "${1:-}" = --init ]; then init; else main; fi

# shellcheck shell=bash
# For the install tests, which read this file.

# within SECONDS COMMAND...: the command succeeds before long.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

#!/bin/sh
# What `make test-usb` runs.
exec "$(dirname "$0")/../tests/usb/run" "$@"

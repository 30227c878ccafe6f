#!/bin/sh
# Installs the Python program that the compat suite compares with into target/test-venv, without
# what it does not need for that (systemd-python must be compiled; journal logging alone uses it).
set -eu
cd "$(dirname "$0")/../.."
venv=target/test-venv
version=1.1.1
if [ -x $venv/bin/pdudaemon ] && [ -e $venv/bin/pduclient ]; then
    exit 0
fi
python3 -m venv $venv
$venv/bin/pip install --quiet --no-deps pdudaemon==$version pymodbus pysnmp
$venv/bin/pip install --quiet aiohttp requests pexpect paramiko pyserial pyusb pyasn1 hidapi
# pduclient is in the source package only.
if $venv/bin/pip download --quiet --no-deps --no-binary pdudaemon --dest $venv/src pdudaemon==$version; then
    tar -xzf $venv/src/pdudaemon-$version.tar.gz -C $venv/src
    cp $venv/src/pdudaemon-$version/pduclient $venv/bin/pduclient
fi
$venv/bin/pdudaemon --help >/dev/null

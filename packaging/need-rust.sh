#!/bin/sh
# need-rust.sh CARGO: says what to install where cargo is missing or too old, or there is no C compiler for
# its linker.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml")
how="Rust $least or later is needed: from rustup, or on Debian 12: apt-get install cargo-web"
command -v "$1" >/dev/null || { echo "There is no $1. $how" >&2; exit 1; }
have=$("$1" --version | cut -d ' ' -f 2)
[ "$(printf '%s\n' "$least" "$have" | sort -V | head -n 1)" = "$least" ] || { echo "This is cargo $have. $how" >&2; exit 1; }
command -v cc >/dev/null || { echo "There is no C compiler (cc): on Debian: apt-get install build-essential" >&2; exit 1; }

#!/bin/sh
# static.sh [ARCH...]: builds pdudaemon and pduclient as programs that need no other file of the machine,
# for x86_64, aarch64 and armv7, in target/static/ARCH. An ARCH that is named must be built; without names,
# this machine's own must, and what the others lack is told.
#
# Rust's standard library for musl serves best: it looks up names by itself, whatever the machine's
# /etc/nsswitch.conf says. glibc's, linked statically, is the second choice.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
cargo=${CARGO:-cargo}
own=$(uname -m | sed 's/^armv[78]l$/armv7/')

left_out() {
    echo "static: $arch is left out: $*" >&2
    case " $must " in *" $arch "*) exit 1 ;; esac
}

# Is Rust's standard library for the triple $1 here, or does rustup have it?
has_std() {
    directory=$(rustc --print target-libdir --target "$1" 2>/dev/null) || return 1
    ls "$directory"/libstd-*.rlib >/dev/null 2>&1 && return
    command -v rustup >/dev/null || return 1
    echo "static: rustup fetches the standard library for $1" >&2
    (cd "$top" && rustup target add "$1" >/dev/null 2>&1)
}

# What triples and which Debian packages with a C compiler $arch has; $debian is Debian's triple.
facts() {
    case $arch in
        x86_64) debian=x86_64-linux-gnu triples="x86_64-unknown-linux-musl x86_64-unknown-linux-gnu"
            packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;;
        aarch64) debian=aarch64-linux-gnu triples="aarch64-unknown-linux-musl aarch64-unknown-linux-gnu"
            packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;;
        armv7) debian=arm-linux-gnueabihf triples="armv7-unknown-linux-musleabihf armv7-unknown-linux-gnueabihf"
            packages="gcc-arm-linux-gnueabihf libc6-dev-armhf-cross" ;;
        *) echo "static: expected x86_64, aarch64 or armv7, got $arch" >&2; exit 1 ;;
    esac
}

build() {
    facts
    triple=
    for one in $triples; do
        if has_std "$one"; then
            triple=$one
            break
        fi
    done
    if [ -z "$triple" ]; then
        left_out "there is no standard library of Rust for it. Type: rustup target add ${triples%% *}"
        return
    fi
    cc=cc
    if [ "$arch" != "$own" ]; then
        cc=$debian-gcc
        # shellcheck disable=SC2086 # a list of words
        if ! command -v "$cc" >/dev/null && ! "$top/packaging/need.sh" $packages; then
            left_out "there is no C compiler for it, $cc (Debian: $packages)"
            return
        fi
    fi
    flags="${RUSTFLAGS:-} -C target-feature=+crt-static"
    name=$(echo "$triple" | tr a-z- A-Z_)
    # Some distributions harden C by functions of glibc, which musl does not have.
    env "CARGO_TARGET_${name}_LINKER=$cc" "CC_$triple=$cc" "CFLAGS_$triple=-U_FORTIFY_SOURCE" RUSTFLAGS="$flags" \
        "$cargo" build --release --locked --bins --target "$triple" --manifest-path "$top/Cargo.toml"
    mkdir -p "$target/static/$arch"
    for program in pdudaemon pduclient; do
        built=$target/$triple/release/$program
        if readelf -lW "$built" | grep -q INTERP; then
            echo "static: $built asks for shared libraries" >&2
            exit 1
        fi
        cp "$built" "$target/static/$arch/"
    done
    ls -l "$target/static/$arch"/*
}

must=${*:-$own}
[ $# -gt 0 ] || set -- x86_64 aarch64 armv7
for arch in "$@"; do
    build
done

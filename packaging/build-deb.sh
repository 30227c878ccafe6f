#!/bin/sh
# Makes the Debian packages in target/deb from packaging/debian, in a build tree of links, so that
# the top level stays clean and the release build is shared with everything else.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
"$top/packaging/need.sh" debhelper dpkg-dev fakeroot

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -n 1)
packaged=$(dpkg-parsechangelog -l "$top/packaging/debian/changelog" -S Version)
if [ "${packaged%-*}" != "$version" ]; then
    echo "packaging/debian/changelog says $packaged, Cargo.toml says $version" >&2
    exit 1
fi

deb=$target/deb
tree=$deb/pdudaemon-$version
rm -rf "$tree"
rm -f "$deb"/*.deb "$deb"/*.buildinfo "$deb"/*.changes
mkdir -p "$tree"
for file in "$top"/*; do
    [ "$file" = "$target" ] || ln -s "$file" "$tree/"
done
rm -f "$tree/target"
cp -R "$top/packaging/debian" "$tree/debian"

# The toolchain and its crates are the caller's: debhelper gives the build a HOME of its own.
export CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}"
export CARGO_TARGET_DIR="$target"
cd "$tree"
dpkg-buildpackage --build=binary --no-sign --no-check-builddeps "$@" </dev/null
ls -l "$deb"/*.deb

# nix-build -E '(import <nixpkgs> { }).callPackage ./packaging/nix/package.nix { }'
{ lib, rustPlatform }:

let
  top = ../..;
  manifest = lib.importTOML (top + "/Cargo.toml");
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.package) version;
  src = lib.cleanSourceWith {
    src = top;
    filter = path: _: baseNameOf path != "target";
  };
  cargoLock.lockFile = top + "/Cargo.lock";
  # The tests start a Python program and servers of other packages.
  doCheck = false;
  # `make install` would build anew.
  installPhase = ''
    runHook preInstall
    release=$(dirname "$(find target -path '*/release/pdudaemon' -type f)")
    make install -o build RELEASE="$release" PREFIX="$out" SYSCONFDIR="$out/etc"
    runHook postInstall
  '';
  meta = {
    inherit (manifest.package) description;
    license = lib.licenses.gpl3Plus;
    mainProgram = "pdudaemon";
    platforms = lib.platforms.linux;
  };
}

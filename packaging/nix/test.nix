# nix-build packaging/nix/test.nix
{ pkgs ? import <nixpkgs> { } }:

pkgs.testers.runNixOSTest {
  name = "pdudaemon";
  nodes.machine = {
    imports = [ ./module.nix ];
    services.pdudaemon = {
      enable = true;
      settings.pdus.demo.driver = "simulated";
    };
  };
  testScript = ''
    machine.wait_for_unit("pdudaemon.service")
    machine.succeed("pdudaemon --health")
    machine.succeed("pduclient on demo:1")
    assert "on" in machine.succeed("pduclient state demo:1")
  '';
}

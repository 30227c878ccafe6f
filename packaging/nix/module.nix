# imports = [ ./packaging/nix/module.nix ];
# services.pdudaemon = { enable = true; settings.pdus.demo.driver = "simulated"; };
{ config, lib, pkgs, ... }:

let
  cfg = config.services.pdudaemon;
  json = pkgs.formats.json { };
in
{
  options.services.pdudaemon = {
    enable = lib.mkEnableOption "pdudaemon, which switches the outlets of PDUs";
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The pdudaemon to run.";
    };
    settings = lib.mkOption {
      type = json.type;
      default = { };
      example = lib.literalExpression ''
        { pdus.rack1 = { driver = "apc7952"; password.file = "rack1"; }; }
      '';
      description = ''
        The config, see pdudaemon.conf(5). It can be read by everybody: name passwords by
        `{ file = "name"; }` and give the files in `credentials`.
      '';
    };
    credentials = lib.mkOption {
      type = lib.types.attrsOf lib.types.path;
      default = { };
      example = lib.literalExpression ''{ rack1 = "/run/keys/rack1"; }'';
      description = "Files with secrets, by the names that the config calls them.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.pdudaemon.settings = {
      daemon.hostname = lib.mkDefault "localhost";
      daemon.state_directory = lib.mkDefault "/var/lib/pdudaemon";
      pdus = lib.mkDefault { };
    };
    environment.etc."pdudaemon/pdudaemon.conf".source = json.generate "pdudaemon.conf" cfg.settings;
    environment.systemPackages = [ cfg.package ];
    services.udev.packages = [ cfg.package ];
    # The unit of the package, with its hardening.
    systemd.packages = [ cfg.package ];
    systemd.services.pdudaemon = {
      wantedBy = [ "multi-user.target" ];
      reloadTriggers = [ config.environment.etc."pdudaemon/pdudaemon.conf".source ];
      path = [ pkgs.openssh ];
      serviceConfig.LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") cfg.credentials;
    };
    users.groups.pdudaemon = { };
    users.users.pdudaemon = {
      isSystemUser = true;
      group = "pdudaemon";
      extraGroups = [ "dialout" ];
      home = "/var/lib/pdudaemon";
    };
  };
}

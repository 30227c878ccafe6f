#!/usr/bin/python3
"""image.py ARCH STATIC TOP ARCHIVE: writes a container image as one file, from the static programs in
STATIC. It pulls nothing and needs no builder; the same programs give the same bytes. The archive is an OCI
image layout (podman, skopeo, containerd), which `docker load` takes too."""

import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
from pathlib import Path

USER = 16421
STATE = "var/lib/pdudaemon"
PLATFORMS = {
    "x86_64": {"architecture": "amd64"},
    "aarch64": {"architecture": "arm64"},
    "armv7": {"architecture": "arm", "variant": "v7"},
}


def entry(name, kind, mode, owner=0, size=0):
    """One entry of a tar archive: without a time and without names of this machine."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = kind, mode, size
    info.uid = info.gid = owner
    return info


def root(static, top):
    """The file system of the image."""
    folder = Path(__file__).parent / "root"
    files = {
        "usr/sbin/pdudaemon": (static / "pdudaemon", 0o755),
        "usr/bin/pduclient": (static / "pduclient", 0o755),
        "usr/share/doc/pdudaemon/copyright": (top / "packaging/debian/copyright", 0o644),
        "config/pdudaemon.conf": (folder / "config/pdudaemon.conf", 0o644),
        "etc/passwd": (folder / "etc/passwd", 0o644),
        "etc/group": (folder / "etc/group", 0o644),
        "etc/hosts": (folder / "etc/hosts", 0o644),
    }
    folders = {STATE: (0o750, USER)}
    for name in [*files, STATE]:
        for parent in Path(name).parents:
            if parent.name:
                folders.setdefault(str(parent), (0o755, 0))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (mode, owner) in sorted(folders.items()):
            tar.addfile(entry(name, tarfile.DIRTYPE, mode, owner))
        for name, (source, mode) in sorted(files.items()):
            data = source.read_bytes()
            tar.addfile(entry(name, tarfile.REGTYPE, mode, size=len(data)), io.BytesIO(data))
    return buffer.getvalue()


def blob(blobs, media_type, data):
    """Keeps the data under its hash; gives what points to it."""
    digest = hashlib.sha256(data).hexdigest()
    blobs[f"blobs/sha256/{digest}"] = data
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def settings(version):
    """What a runtime needs to know. OCI has no word for a health check; docker reads its own."""
    return {
        "User": f"{USER}:{USER}",
        "WorkingDir": f"/{STATE}",
        "Env": ["PATH=/usr/sbin:/usr/bin", f"HOME=/{STATE}", f"STATE_DIRECTORY=/{STATE}"],
        "Entrypoint": ["/usr/sbin/pdudaemon", "--conf=/config/pdudaemon.conf"],
        "ExposedPorts": {"16421/tcp": {}},
        "Volumes": {f"/{STATE}": {}},
        "StopSignal": "SIGTERM",
        "Healthcheck": {
            "Test": ["CMD", "/usr/sbin/pdudaemon", "--health", "--conf=/config/pdudaemon.conf"],
            "Interval": 30_000_000_000,
            "Timeout": 5_000_000_000,
            "StartPeriod": 10_000_000_000,
            "Retries": 3,
        },
        "Labels": {
            "org.opencontainers.image.title": "pdudaemon",
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.licenses": "GPL-3.0-or-later",
        },
    }


def main(arch, static, top, archive):
    manifest = (Path(top) / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.*)"', manifest, re.M).group(1)
    layer = root(Path(static), Path(top))
    packed = gzip.compress(layer, mtime=0)
    oci = "application/vnd.oci.image"
    blobs = {}
    layer_at = blob(blobs, f"{oci}.layer.v1.tar+gzip", packed)
    config = {
        "os": "linux",
        **PLATFORMS[arch],
        "created": "1970-01-01T00:00:00Z",
        "config": settings(version),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "image.py"}],
    }

    def text(value):
        return json.dumps(value, sort_keys=True).encode()

    config_at = blob(blobs, f"{oci}.config.v1+json", text(config))
    image = {
        "schemaVersion": 2,
        "mediaType": f"{oci}.manifest.v1+json",
        "config": config_at,
        "layers": [layer_at],
    }
    image_at = blob(blobs, image["mediaType"], text(image))
    image_at["platform"] = {"os": "linux", **PLATFORMS[arch]}
    image_at["annotations"] = {
        "org.opencontainers.image.ref.name": version,
        "io.containerd.image.name": f"localhost/pdudaemon:{version}",
    }
    files = dict(sorted(blobs.items()))
    files["oci-layout"] = text({"imageLayoutVersion": "1.0.0"})
    files["index.json"] = text(
        {"schemaVersion": 2, "mediaType": f"{oci}.index.v1+json", "manifests": [image_at]}
    )
    # The older form, which `docker load` reads.
    def path(at):
        return "blobs/" + at["digest"].replace(":", "/")

    files["manifest.json"] = text(
        [
            {
                "Config": path(config_at),
                "RepoTags": [f"localhost/pdudaemon:{version}"],
                "Layers": [path(layer_at)],
            }
        ]
    )
    Path(archive).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ["blobs", "blobs/sha256"]:
            tar.addfile(entry(name, tarfile.DIRTYPE, 0o755))
        for name, data in files.items():
            tar.addfile(entry(name, tarfile.REGTYPE, 0o644, size=len(data)), io.BytesIO(data))
    print(f"{archive}: localhost/pdudaemon:{version}, {Path(archive).stat().st_size / 1e6:.1f} MB")


main(*sys.argv[1:])

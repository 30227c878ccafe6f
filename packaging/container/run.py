#!/usr/bin/python3
"""run.py unpack ARCHIVE ROOT | run|exec|health ARCHIVE ROOT WORK [WORDS...]: the few things that a
container runtime does with an image, for the test of ours where there is no runtime. The caller has the
namespaces and is root."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile


def image(archive):
    """The image's settings and its file system; every hash that the archive names is right."""
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}

    def blob(at):
        data = files["blobs/" + at["digest"].replace(":", "/")]
        assert "sha256:" + hashlib.sha256(data).hexdigest() == at["digest"], at
        assert len(data) == at["size"], at
        return data

    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (at,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blob(at))
    config = json.loads(blob(manifest["config"]))
    (layer,) = (gzip.decompress(blob(layer)) for layer in manifest["layers"])
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]
    # What `docker load` goes by.
    (docker,) = json.loads(files["manifest.json"])
    assert docker["Config"] in files and docker["Layers"][0] in files
    return config["config"], layer


def enter(settings, root, words):
    """Becomes a program of the image: its root, its user without any rights, its environment."""
    user, group = map(int, settings["User"].split(":"))
    os.chroot(root)
    os.chdir(settings["WorkingDir"])
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    environment = dict(one.split("=", 1) for one in settings["Env"])
    os.execve(words[0], words, environment)


def main(what, archive, root, work=None, *words):
    settings, layer = image(archive)
    if what == "unpack":
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            tar.extractall(root)
        print("unpacked")
    elif what == "run":
        # A root that nobody can write to, but for the volumes: as `docker run --read-only`.
        script = 'mkdir -p "$0/proc" && mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"'
        for volume in settings["Volumes"]:
            script += f' && mount -t tmpfs -o uid=16421,gid=16421,mode=750 tmpfs "$0{volume}"'
        script += ' && exec unshare --pid --fork --kill-child --mount-proc="$0/proc" "$@"'
        again = [sys.executable, os.path.abspath(__file__), "first", archive, root, work]
        os.execvp("unshare", ["unshare", "--mount", "sh", "-c", script, root, *again, *words])
    elif what == "first":
        enter(settings, root, [*settings["Entrypoint"], *words])
    elif what == "exec":
        enter(settings, root, list(words))
    elif what == "health":
        kind, *command = settings["Healthcheck"]["Test"]
        assert kind == "CMD"
        enter(settings, root, command)


main(*sys.argv[1:])

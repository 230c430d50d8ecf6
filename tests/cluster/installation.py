"""Podlock on the cluster, as deploy/README.md says, and off it again."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from agent.redirect.bpffs import find_cgroup
from tests.cluster import machine
from tests.lab.system import LabError

OVERLAY: Final = machine.HERE / "kubernetes"
CRDS: Final = machine.ROOT / "deploy/crds"


def apply() -> None:
    """Install it; returns once the API server has everything. Raises: LabError."""
    machine.kubectl("apply", "-f", str(CRDS))
    machine.kubectl(
        "apply", "-f", str(machine.ROOT / "deploy/kubernetes/namespace.yaml")
    )
    _issue()
    machine.kubectl("apply", "-k", str(_overlay()))


def delete() -> None:
    """Take it off, and wait until its pods are gone. Raises: LabError."""
    machine.kubectl("delete", "-k", str(_overlay()), seconds=180)


def _issue() -> None:
    """The Secret that the manifests ask for, once."""
    known = machine.kubectl_try("-n", machine.MESH, "get", "secret", "podlock-issuer")
    if known.returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [machine.ROOT / "deploy/make-issuer.sh", folder],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise LabError(f"make-issuer.sh: {done.stderr}")
        create = ("-n", machine.MESH, "create", "secret", "generic", "podlock-issuer")
        files = [f"--from-file={folder}/{n}" for n in ("tls.crt", "tls.key", "ca.crt")]
        machine.kubectl(*create, *files)


def _overlay() -> Path:
    """The overlay with this machine's place of cgroup v2 in it."""
    made = machine.RUN / "overlay"
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(OVERLAY, made)
    patch = made / "agent.yaml"
    patch.write_text(patch.read_text().replace("CGROUP2", str(find_cgroup(None))))
    base = os.path.relpath(machine.ROOT / "deploy/kubernetes", made.resolve())
    whole = made / "kustomization.yaml"
    whole.write_text(whole.read_text().replace("../../../deploy/kubernetes", base))
    return made

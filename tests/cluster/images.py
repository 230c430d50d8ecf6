"""Images for the cluster, made by buildah from the base image that `assets` made."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster import machine
from tests.lab.system import LabError

BASE: Final = "docker.io/library/debian:bookworm-slim"
PODLOCK: Final = "ghcr.io/podlock/podlock:0.1.0"
APPLICATIONS: Final = "localhost/applications:1"
IMAGES: Final = machine.CACHE / "images"
# Where the certificates are that this machine's pip trusts, in a build.
_CERTIFICATES: Final = "/run/certificates.pem"


@dataclass(frozen=True, slots=True)
class Image:
    """One to build: `sources` are what it is made of, below the repository's root."""

    name: str
    file: str
    sources: tuple[str, ...]

    @property
    def stamp(self) -> str:
        """Another one once the image would be another."""
        digest = hashlib.sha256()
        for path in sorted(_files(machine.ROOT / name for name in self.sources)):
            digest.update(f"{path.relative_to(machine.ROOT)}\n".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    @property
    def archive(self) -> Path:
        """Where it is kept once it was built."""
        stem = self.name.split("/")[-1].split(":")[0]
        return IMAGES / f"{stem}-{self.stamp}.tar"


ALL: Final = (
    Image(
        PODLOCK,
        "deploy/Dockerfile",
        (
            *("agent", "bpf", "deploy/Dockerfile", "deploy/sbom.py"),
            *("pyproject.toml", "requirements.lock", "README.md", "LICENSE"),
        ),
    ),
    Image(
        APPLICATIONS,
        "tests/cluster/applications.Dockerfile",
        ("tests/cluster/applications.Dockerfile", "tests/lab/programs"),
    ),
)


def build(image: Image) -> Path:
    """The archive of an image, built unless that was done before. Raises: LabError."""
    archive = image.archive
    if archive.exists():
        return archive
    _need_base()
    command = ["buildah", "build", "--isolation=chroot", "--layers", "--pull-never"]
    command += ["--ignorefile", str(machine.ROOT / f"{image.file}.dockerignore")]
    command += ["--build-arg", f"PIP_CERT={_CERTIFICATES}"]
    command += ["--volume", f"{_certificates()}:{_CERTIFICATES}:ro"]
    command += ["--file", str(machine.ROOT / image.file), "--tag", image.name]
    _buildah(*command, str(machine.ROOT))
    # Written whole or not at all.
    with tempfile.TemporaryDirectory(dir=IMAGES) as folder:
        made = Path(folder) / "image.tar"
        _buildah("buildah", "push", image.name, f"docker-archive:{made}:{image.name}")
        for old in IMAGES.glob(archive.name.rsplit("-", 1)[0] + "-*.tar"):
            old.unlink()
        made.rename(archive)
    return archive


def _need_base() -> None:
    known = _buildah("buildah", "images", "--format", "{{.Name}}:{{.Tag}}")
    if BASE not in known.split():
        archive = IMAGES / "base.tar"
        _buildah("buildah", "pull", f"docker-archive:{archive}")


def _buildah(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-12:]
        raise LabError(f"{' '.join(command[:2])}: " + "\n".join(said))
    return done.stdout


def _certificates() -> str:
    found = ssl.get_default_verify_paths().cafile
    return found or "/etc/ssl/certs/ca-certificates.crt"


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_file():
            yield path
        else:
            yield from (
                each
                for each in path.rglob("*")
                if each.is_file() and "__pycache__" not in each.parts
            )

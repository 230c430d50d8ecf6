"""A Secret as the kubelet mounts it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Mount:
    """A directory of links into `..data`, a link to the version in force."""

    directory: Path
    versions: int = field(default=0)

    def swap(
        self, chain_pem: bytes, key_pem: bytes, anchors_pem: bytes | None = None
    ) -> None:
        """A new version beside, then the one link is replaced."""
        self.directory.mkdir(exist_ok=True)
        self.versions += 1
        version = self.directory / f"..2026_{self.versions}"
        version.mkdir()
        files = {"tls.crt": chain_pem, "tls.key": key_pem}
        if anchors_pem is not None:
            files["ca.crt"] = anchors_pem
        for name, content in files.items():
            (version / name).write_bytes(content)
        (version / "tls.key").chmod(0o440)
        link = self.directory / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self.directory / "..data")
        for name in files:
            visible = self.directory / name
            if not visible.is_symlink():
                visible.symlink_to(f"..data/{name}")

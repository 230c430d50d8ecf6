"""A kubeconfig leads to one API server, as one user, or is refused by its field."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kube.access import Access, InvalidAccess, in_cluster, parse_kubeconfig

BASE = Path("/etc/kubernetes")


def kubeconfig(
    cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None
) -> bytes:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": "here",
        "clusters": [
            {"name": "other", "cluster": {"server": "https://other"}},
            {"name": "c", "cluster": {"server": "https://api:6443", **(cluster or {})}},
        ],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "x"}}
        ],
        "users": [{"name": "u", "user": user or {}}],
    }
    return json.dumps(document).encode()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TestKubeconfig:
    def test_files_are_relative_to_it(self) -> None:
        """As kubectl reads them."""
        access = parse_kubeconfig(
            kubeconfig(
                {"certificate-authority": "ca.crt", "tls-server-name": "kubernetes"},
                {"client-certificate": "/abs.crt", "client-key": "pki/me.key"},
            ),
            BASE,
        )
        assert access == Access(
            "https://api:6443",
            ca=BASE / "ca.crt",
            certificate=Path("/abs.crt"),
            key=BASE / "pki/me.key",
            server_name="kubernetes",
        )

    def test_what_it_holds_itself_wins(self) -> None:
        """Inline data over a file; a token file over a token."""
        access = parse_kubeconfig(
            kubeconfig(
                {
                    "certificate-authority": "ca.crt",
                    "certificate-authority-data": encoded("PEM"),
                },
                {"token": "old", "tokenFile": "token"},
            ),
            BASE,
        )
        assert (access.ca, access.token) == (b"PEM", BASE / "token")

    @pytest.mark.parametrize(
        ("cluster", "user", "field"),
        [
            ({"insecure-skip-tls-verify": True}, {}, "insecure-skip-tls-verify"),
            ({"proxy-url": "http://proxy"}, {}, "proxy-url"),
            ({"server": "http://api"}, {}, "expected https"),
            ({"certificate-authority-data": "%"}, {}, "certificate-authority-data"),
            ({}, {"exec": {"command": "aws"}}, "users.user.exec"),
            ({}, {"auth-provider": {"name": "gcp"}}, "auth-provider"),
            ({}, {"username": "me", "password": "x"}, "username"),
            ({}, {"as": "root"}, "users.user.as"),
            ({}, {"client-certificate": "me.crt"}, "needs its key"),
            ({}, {"client-key-data": encoded("x")}, "needs its key"),
        ],
    )
    def test_what_is_not_done_is_refused(
        self, cluster: dict[str, Any], user: dict[str, Any], field: str
    ) -> None:
        """To pass over it would be to be somebody else, or to trust anybody."""
        with pytest.raises(InvalidAccess, match=field):
            parse_kubeconfig(kubeconfig(cluster, user), BASE)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"[]",
            b"{",
            b"current-context: here\n",
            kubeconfig().replace(b'"name": "c"', b'"name": "d"'),
            kubeconfig().replace(b'"name": "u"', b'"name": "v"'),
            kubeconfig().replace(b'"name": "here"', b'"name": "there"'),
            b"#" * (1 << 20) + b"#",
        ],
    )
    def test_what_is_no_kubeconfig(self, data: bytes) -> None:
        """Is an error of ours, whatever it is."""
        with pytest.raises(InvalidAccess):
            parse_kubeconfig(data, BASE)

    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        """Nothing else is ever raised."""
        with pytest.raises(InvalidAccess):
            parse_kubeconfig(data, BASE)


def test_in_a_pod() -> None:
    """What the kubelet mounts, where it mounts it."""
    access = in_cluster("https://10.0.0.1:443", Path("/run/sa"))
    assert (access.ca, access.token) == (Path("/run/sa/ca.crt"), Path("/run/sa/token"))


def test_secrets_cannot_print() -> None:
    """A token or key never comes out in a message."""
    assert "secret" not in repr(Access("https://api", token=b"secret"))


@pytest.mark.parametrize("line", [b'"secret', b"secret: x", b"[secret]", b"%secret"])
def test_a_broken_kubeconfig_is_told_without_what_it_holds(line: bytes) -> None:
    """The line is named; what stands there may be a token."""
    data = b"users:\n- user:\n    token: " + line + b"\n  name: [u\n"
    with pytest.raises(InvalidAccess) as caught:
        parse_kubeconfig(data, BASE)
    assert "line " in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None

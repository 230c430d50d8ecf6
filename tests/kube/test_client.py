"""Who we are to a real API server, and who it is to us."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.kube.access import Access
from agent.kube.client import ApiFailed, Client
from agent.kube.failure import FailureKind
from tests.cluster.credentials import Authority
from tests.kube.world import World, written

pytestmark = pytest.mark.slow


async def refused(asked: Client, path: str) -> tuple[FailureKind, str]:
    with pytest.raises(ApiFailed) as caught:
        await asked.get(path)
    return caught.value.failure.kind, str(caught.value)


@pytest.mark.parametrize("inline", [False, True])
async def test_a_kubeconfig_with_a_client_certificate(
    world: World, inline: bool
) -> None:
    """In files and in the kubeconfig itself."""
    async with Client(world.as_admin(inline=inline)) as client:
        assert world.namespace.encode() in await client.get(
            f"/api/v1/namespaces/{world.namespace}"
        )


async def test_a_server_that_does_not_verify(world: World, tmp_path: Path) -> None:
    """The reason says what to compare, and no token was sent."""
    other = Authority(tmp_path)
    access = Access(world.plane.url, ca=other.certificate, token=b"secret")
    async with Client(access) as client:
        kind, text = await refused(client, "/api")
    assert kind is FailureKind.UNTRUSTED
    assert "does not verify" in text
    assert "secret" not in text


async def test_a_token_that_is_rotated(world: World, tmp_path: Path) -> None:
    """The next request is somebody else's; without the file the last one goes on."""
    for name in ("one", "two"):
        await written(world.account, name)
    await written(world.grant, "two", ("", "services", "list"))
    file = tmp_path / "token"
    file.write_text(await written(world.token, "one"))
    async with Client(world.as_account(file)) as client:
        kind, text = await refused(client, "/api/v1/services")
        assert kind is FailureKind.FORBIDDEN
        assert f"system:serviceaccount:{world.namespace}:one" in text
        file.write_text(await written(world.token, "two"))
        assert b"ServiceList" in await client.get("/api/v1/services")
        file.unlink()
        assert b"ServiceList" in await client.get("/api/v1/services")
        file.write_text("not.a.token")
        kind, _ = await refused(client, "/api/v1/services")
        assert kind is FailureKind.UNAUTHORIZED


async def test_nobody_there(world: World) -> None:
    """A port that nobody listens on."""
    access = Access("https://127.0.0.1:1", ca=world.plane.authority.certificate)
    async with Client(access) as client:
        kind, text = await refused(client, "/api")
    assert (kind, "refused" in text) == (FailureKind.AWAY, True)

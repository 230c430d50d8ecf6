"""What the kubelet is told."""

from __future__ import annotations

import httpx
import pytest

from agent.status.readiness import answer, application

REASONS = ["a proxy worker is not running", "the objects have not been looked at yet"]


def test_ready() -> None:
    """Both paths say so."""
    assert answer("GET", "/readyz", list) == (200, "ok\n")
    assert answer("GET", "/livez", list) == (200, "ok\n")


def test_not_ready_is_alive() -> None:
    """And tells each reason; a restart would not help, so it lives."""
    assert answer("GET", "/readyz", lambda: REASONS) == (
        503,
        "a proxy worker is not running\nthe objects have not been looked at yet\n",
    )
    assert answer("GET", "/livez", lambda: REASONS)[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/readyz"), ("GET", "/"), ("GET", "/readyz/"), ("GET", "/v1/status")],
)
def test_nothing_else_is_served(method: str, path: str) -> None:
    """The status socket's documents are not for everybody on the node."""
    assert answer(method, path, lambda: REASONS)[0] == 404


async def test_over_http() -> None:
    """As an ASGI application."""
    app = application(lambda: REASONS[:1])
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        answered = await client.get("/readyz")
    assert (answered.status_code, answered.text) == (503, f"{REASONS[0]}\n")

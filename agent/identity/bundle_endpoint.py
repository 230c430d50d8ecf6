"""
Fetching a foreign trust domain's bundle: a file, or HTTPS in one of two profiles.

    https_web     the server proves its host name to the web's authorities
    https_spiffe  the server proves its SPIFFE ID, under its own domain's bundle

Source: SPIFFE Federation section 5.2. Every hop of a redirect proves the same.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Final, cast

import httpx
import trio

from agent.errors import PodlockError, innermost
from agent.identity.bundle import Bundle
from agent.identity.certificate import inspect, require_identity
from agent.identity.federated import FederatedDomain
from agent.identity.spiffe import SpiffeId
from agent.identity.spiffe_bundle import MAX_DOCUMENT_BYTES
from agent.recovery import CONNECT_SECONDS, LIMIT_SECONDS

TIMEOUT: Final = timedelta(seconds=LIMIT_SECONDS)
MAX_REDIRECTS: Final = 3


class BundleUnavailable(PodlockError):
    """A bundle could not be fetched, or who offers it did not prove who it is."""


async def read_file(domain: FederatedDomain) -> bytes:
    """The content of the domain's file. Raises: BundleUnavailable."""
    assert domain.file is not None
    return await _read(trio.Path(domain.file))


async def fetch(domain: FederatedDomain, endpoint_bundle: Bundle | None) -> bytes:
    """
    What the domain's endpoint answers.

    Args: endpoint_bundle has the anchors of the endpoint's trust domain, for
    https_spiffe. Raises: BundleUnavailable.
    """
    assert domain.url is not None
    if domain.profile == "https_web":
        context = await _web_context(domain)
        return await _get(domain.url, context, None)
    assert domain.endpoint_id is not None
    if endpoint_bundle is None:
        owner = domain.endpoint_id.trust_domain
        raise BundleUnavailable(f"{domain.url}: no bundle of {owner}, who serves it")
    context = _context(endpoint_bundle.pem)
    context.check_hostname = False  # its name is its SPIFFE ID
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return await _get(domain.url, context, domain.endpoint_id)


async def _web_context(domain: FederatedDomain) -> ssl.SSLContext:
    if domain.web_anchors is None:
        return ssl.create_default_context()
    content = await _read(trio.Path(domain.web_anchors))
    return _context(content, f"{domain.web_anchors}: ")


def _context(anchors_pem: bytes, where: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=anchors_pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise BundleUnavailable(
            f"{where}anchors of a bundle endpoint: {error}"
        ) from error
    return context


async def _read(path: trio.Path) -> bytes:
    try:
        async with await path.open("rb") as file:
            content = await file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise BundleUnavailable(f"{path}: {error.strerror}") from error
    if len(content) > MAX_DOCUMENT_BYTES:
        raise BundleUnavailable(f"{path}: more than {MAX_DOCUMENT_BYTES} bytes")
    return content


async def _get(url: str, context: ssl.SSLContext, server: SpiffeId | None) -> bytes:
    async def check_hop(request: httpx.Request) -> None:
        if request.url.scheme != "https" or request.url.userinfo:
            raise BundleUnavailable(f"{url}: redirects to {request.url}")

    async def check_server(response: httpx.Response) -> None:
        if server is not None:
            _require_server(response, server)

    client = httpx.AsyncClient(
        verify=context,
        timeout=httpx.Timeout(TIMEOUT.total_seconds(), connect=CONNECT_SECONDS),
        trust_env=False,  # neither a proxy nor anchors from the environment
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        event_hooks={"request": [check_hop], "response": [check_server]},
    )
    try:
        with trio.fail_after(TIMEOUT.total_seconds()):
            async with client, client.stream("GET", url) as response:
                if response.status_code != 200:
                    raise BundleUnavailable(f"{url}: status {response.status_code}")
                return await _body(url, response)
    except trio.TooSlowError as error:
        raise BundleUnavailable(f"{url}: no answer within {TIMEOUT}") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise BundleUnavailable(f"{url}: {innermost(error)}") from error


def _require_server(response: httpx.Response, expected: SpiffeId) -> None:
    """The far end is `expected`: its chain has been verified in the handshake."""
    stream = response.extensions["network_stream"]
    tls: Any = stream.get_extra_info("ssl_object")
    try:
        require_identity(inspect(tls.getpeercert(binary_form=True)), expected)
    except PodlockError as error:
        raise BundleUnavailable(f"{response.url}: {error}") from error


async def _body(url: str, response: httpx.Response) -> bytes:
    body = bytearray()
    stream = cast("AsyncGenerator[bytes, None]", response.aiter_bytes())
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_DOCUMENT_BYTES:
                message = f"{url}: more than {MAX_DOCUMENT_BYTES} bytes"
                raise BundleUnavailable(message)
    return bytes(body)

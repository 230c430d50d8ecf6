"""TLS KeyUpdate records, which Python's `ssl` never sends of its own accord."""

from __future__ import annotations

import ctypes
import ssl

from agent import openssl

NOT_REQUESTED = 0
REQUESTED = 1
"""RFC 8446 section 4.6.3: whether the peer is to answer with one of its own."""


def queue_key_update(tls: ssl.SSLSocket | ssl.SSLObject, request: int) -> None:
    """The next write of `tls` has a KeyUpdate before it (SSL_key_update(3))."""
    library = openssl._library()
    update = library.SSL_key_update
    update.argtypes, update.restype = [ctypes.c_void_p, ctypes.c_int], ctypes.c_int
    assert update(openssl._connection_pointer(tls), request) == 1


def send_key_update(tls: ssl.SSLSocket | ssl.SSLObject, request: int) -> None:
    """One record and nothing else; BlockingIOError where the socket is full."""
    queue_key_update(tls, request)
    handshake = openssl._library().SSL_do_handshake
    handshake.argtypes, handshake.restype = [ctypes.c_void_p], ctypes.c_int
    if handshake(openssl._connection_pointer(tls)) != 1:
        raise BlockingIOError("the socket takes no KeyUpdate now")

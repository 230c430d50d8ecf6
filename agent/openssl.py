"""
What OpenSSL can limit and Python's `ssl` does not offer (edge; ctypes).

`ssl` keeps its `SSL_CTX *` and `SSL *` behind the head of its own objects: the same
place in every CPython from 3.7 to 3.14. `_pointer` never trusts that alone: what is
read as an `SSL *` must lead back to the `SSL_CTX *` of the same connection
(SSL_get_SSL_CTX(3)), once per process, before anything is changed.
"""

from __future__ import annotations

import _ssl
import ctypes
import functools
import ssl
from typing import Final

from agent.errors import PodlockError

# openssl/ssl.h
_CTRL_GET_MAX_CERT_LIST: Final = 50
_CTRL_SET_MAX_CERT_LIST: Final = 51
_CTRL_CLEAR_MODE: Final = 78
_MODE_AUTO_RETRY: Final = 4
_DEFAULT_MAX_CERT_LIST: Final = 100 * 1024  # SSL_MAX_CERT_LIST_DEFAULT

_HEAD_BYTES: Final = object.__basicsize__
_POINTER_BYTES: Final = ctypes.sizeof(ctypes.c_void_p)


class UnknownOpenSsl(PodlockError):
    """This Python does not keep OpenSSL's objects where every known one does."""


def limit_peer_chain(context: ssl.SSLContext, max_bytes: int, max_depth: int) -> None:
    """
    Refuse a Certificate message over `max_bytes` before it is parsed, and build no path
    of more than `max_depth` issuers (SSL_CTX_set_max_cert_list(3),
    SSL_CTX_set_verify_depth(3)). OpenSSL's own limits are 100 KiB and 100: a peer
    without any certificate of ours makes the process verify for a second.

    Raises: UnknownOpenSsl.
    """
    library = _library()
    pointer = _context_pointer(context)
    library.SSL_CTX_ctrl(pointer, _CTRL_SET_MAX_CERT_LIST, max_bytes, None)
    library.SSL_CTX_set_verify_depth(pointer, max_depth)


def return_after_each_record(tls: ssl.SSLSocket | ssl.SSLObject) -> None:
    """
    Make `read` return after a record without payload, by SSLWantReadError.

    Python sets SSL_MODE_AUTO_RETRY: then SSL_read(3) handles records as long as they
    come, KeyUpdates for example (RFC 8446 section 4.6.3), and the caller waits.

    Raises: UnknownOpenSsl.
    """
    library = _library()
    pointer = _connection_pointer(tls)
    library.SSL_ctrl(pointer, _CTRL_CLEAR_MODE, _MODE_AUTO_RETRY, None)


def _context_pointer(context: ssl.SSLContext) -> int:
    return _pointer(context, _HEAD_BYTES)


def _connection_pointer(tls: ssl.SSLSocket | ssl.SSLObject) -> int:
    """`_ssl._SSLSocket` has a weak reference before it."""
    inner: object = tls._sslobj  # type: ignore[union-attr]
    return _pointer(inner, _HEAD_BYTES + _POINTER_BYTES)


def _pointer(of: object, offset: int) -> int:
    return int(ctypes.c_void_p.from_address(id(of) + offset).value or 0)


@functools.cache
def _library() -> ctypes.CDLL:
    """The libssl that `ssl` itself uses, tried once. Raises: UnknownOpenSsl."""
    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    pointer, number, value = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
    for function in (library.SSL_CTX_ctrl, library.SSL_ctrl):
        function.argtypes = [pointer, number, value, pointer]
        function.restype = value
    library.SSL_CTX_set_verify_depth.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.SSL_CTX_set_verify_depth.restype = None
    library.SSL_get_SSL_CTX.argtypes = [ctypes.c_void_p]
    library.SSL_get_SSL_CTX.restype = ctypes.c_void_p
    _require_known(library)
    return library


def _require_known(library: ctypes.CDLL) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    pointer = _context_pointer(context)
    leads_back = library.SSL_get_SSL_CTX(_connection_pointer(tls)) == pointer
    if not leads_back or _default_of(library, pointer) != _DEFAULT_MAX_CERT_LIST:
        raise UnknownOpenSsl(
            f"{ssl.OPENSSL_VERSION}: the limits of TLS handshakes cannot be set"
        )


def _default_of(library: ctypes.CDLL, context: int) -> int:
    return int(library.SSL_CTX_ctrl(context, _CTRL_GET_MAX_CERT_LIST, 0, None))

"""
Bytes over a non-blocking TLS socket.

OpenSSL reads and writes the socket itself (`ssl.SSLSocket`); somebody else tells when
it is ready: trio during the handshake, the reactor afterwards. Measured against memory
BIOs (`trio.SSLStream`) this moves about twice the bytes, because nothing is copied
through Python in between.

TLS 1.3 has no renegotiation, so neither direction ever waits for the other.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, cast

import trio

from agent.errors import PeerError
from agent.identity.certificate import Finding
from agent.identity.openssl_verdict import verdict
from agent.openssl import return_after_each_record

# One TLS record holds at most this much (RFC 8446 section 5.1): a full one suggests
# that another is waiting.
RECORD_BYTES: Final = 16384


# Handled in a row without payload; rustls ends a connection at the 33rd as well. Reads
# in vain before each next one is looked at: a record comes in pieces, mostly.
MAX_EMPTY_RECORDS: Final = 32
_READS_IN_VAIN: Final = 8
_HEADER_BYTES: Final = 5
_PROTECTED: Final = b"\x17\x03\x03"  # RFC 8446 section 5.2: all that follow look so

CUT: Final = "the connection was cut without close_notify"


Steps = Callable[[], AbstractAsyncContextManager[None]]


class HandshakeFailed(PeerError):
    """The peer is not who it must be, does not speak TLS 1.3, or took too long."""

    def __init__(self, message: str, *findings: Finding) -> None:
        super().__init__(f"TLS handshake: {message}")
        self.findings = findings
        """What is wrong with the peer's certificate, if that is why."""

    @classmethod
    def because(cls, error: OSError) -> HandshakeFailed:
        """The failure that OpenSSL or the socket told."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return cls(explain(error), _verdict(error))
        return cls(explain(error))


class TransportFailed(PeerError):
    """An established TLS connection broke: reset, cut short, or tampered with."""


class Transport:
    """A TLS connection of a tunnel."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        # OpenSSL tells the reason of a fatal error once; it must reach the caller.
        self._failure: OSError | None = None
        self._in_vain = 0
        self._empty_records = 0
        self.must_write = False
        """Nothing is read before the socket takes what OpenSSL has to answer."""
        self.concluded = False
        """An end or a failure stands behind what was received: ask once more."""

    @classmethod
    async def handshake(
        cls,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server: bool,
        timeout_seconds: float,
        steps: Steps = contextlib.nullcontext,
    ) -> Transport:
        """
        Shake hands; owns `sock` from the call on and closes it on failure. Each step
        that OpenSSL makes of it, a millisecond or more, is made inside `steps()`.

        Raises: HandshakeFailed.
        """
        try:
            tls = context.wrap_socket(
                sock,
                server_side=server,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
        except OSError as error:  # reset before we came to it
            sock.close()
            raise HandshakeFailed.because(error) from error
        try:
            with trio.fail_after(timeout_seconds):
                await _handshake(tls, steps)
        except trio.TooSlowError as error:
            tls.close()
            text = f"no answer within {timeout_seconds:g} s"
            raise HandshakeFailed(text) from error
        except OSError as error:
            tls.close()
            raise HandshakeFailed.because(error) from error
        except BaseException:
            tls.close()
            raise
        return_after_each_record(tls)
        return cls(tls)

    def receive_now(self, buffer: memoryview) -> int | None:
        """
        Take what is there, several records at once if they fit; never waits.

        `buffer` has room for a record at least (RECORD_BYTES). What does not fit stays
        in the socket, never inside OpenSSL: so readiness tells of it.

        Returns: the number of bytes, None if nothing is there, 0 after a clean
        close_notify. Raises: TransportFailed, also for a connection cut without
        close_notify.
        """
        assert len(buffer) >= RECORD_BYTES
        try:
            count = self._receive(buffer)
        except (OSError, ValueError) as error:
            raise TransportFailed(explain(error)) from error
        if count:
            self._in_vain = self._empty_records = 0
        return count

    def _look(self) -> bool:
        """Whether a whole record waits in the socket; asked after reads in vain."""
        peek = socket.socket.recv
        try:
            header = peek(self.tls, _HEADER_BYTES, socket.MSG_PEEK)
            length = _HEADER_BYTES + int.from_bytes(header[3:])
            return header[:3] == _PROTECTED and length <= len(
                peek(self.tls, length, socket.MSG_PEEK)
            )
        except BlockingIOError:
            return False

    def _nothing(self, whole: bool) -> None:
        """A read in vain; of a `whole` record, it had no payload."""
        self._in_vain += 1
        self._empty_records += whole
        if self._empty_records > MAX_EMPTY_RECORDS:
            text = f"{MAX_EMPTY_RECORDS} TLS records without payload in a row"
            raise TransportFailed(text)

    def _receive(self, buffer: memoryview) -> int | None:
        if self._failure is not None:
            raise self._failure
        total, read, pending = 0, self.tls.read, self.tls.pending
        whole, self.must_write = self._in_vain >= _READS_IN_VAIN and self._look(), False
        try:
            while len(buffer) - total >= RECORD_BYTES:
                # With a buffer `read` counts what it put there; its types say bytes.
                count = cast(int, read(RECORD_BYTES, buffer[total:]))
                total += count
                # A record that is not full is the last one of its batch, mostly.
                if count < RECORD_BYTES and not pending():
                    self.concluded = count == 0
                    return total
        except ssl.SSLWantReadError:
            if not total:
                self._nothing(whole)
            return total or None
        except ssl.SSLWantWriteError:  # a KeyUpdate that wants ours (RFC 8446 4.6.3)
            self.must_write = True
            return total or None
        except OSError as error:
            if not total:
                raise
            self._failure, self.concluded = error, True  # first what was good
        return total

    def send_now(self, data: memoryview) -> int:
        """
        Send what the socket takes now; never waits.

        What it did not take must come again, the same bytes and maybe more behind
        them: OpenSSL has made a record of them already (SSL_write(3),
        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER). Raises: TransportFailed.
        """
        try:
            return self.tls.write(data)
        except ssl.SSLWantWriteError:
            return 0
        except (OSError, ValueError) as error:
            raise TransportFailed(explain(error)) from error

    def close(self) -> None:
        """Say close_notify if the socket takes it, then close."""
        if self.tls.fileno() < 0:
            return
        # Sends our close_notify; a want-read means that the peer's has not come yet.
        with contextlib.suppress(OSError, ValueError):
            self.tls.unwrap()
        self.tls.close()


async def _handshake(tls: ssl.SSLSocket, steps: Steps) -> None:
    while True:
        try:
            async with steps():
                tls.do_handshake()
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(tls)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(tls)
        else:
            return


def explain(error: BaseException) -> str:
    """One line for an operator out of an OpenSSL or socket error."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"the peer's certificate does not verify: {_verdict(error)}"
        case ssl.SSLEOFError():
            return CUT
        case ssl.SSLError():
            return _openssl_reason(error)
        case OSError():
            return (error.strerror or str(error)).lower()
        case _:
            return "closed"


def _verdict(error: ssl.SSLCertVerificationError) -> Finding:
    return verdict(error.verify_code, error.verify_message)


ALTERED: Final = "a record was altered, replayed or not meant for us (bad record MAC)"
_REASONS: Final = {
    "UNEXPECTED_EOF_WHILE_READING": CUT,
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": ALTERED,
    # What OpenSSL 3.5 says last, of that and of whatever else breaks a record.
    "RECORD_LAYER_FAILURE": f"{ALTERED}, or is no record",
    "HTTP_REQUEST": "the peer speaks plaintext HTTP, not TLS",
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "the peer does not offer TLS 1.3",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer presented no certificate",
    "BAD_SIGNATURE": "the peer does not hold the key of the certificate it presents",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust our certificate's authority",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer wants a certificate of ours",
}


def _openssl_reason(error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    plain = reason.replace("_", " ").lower()
    return f"{_REASONS[reason]} [{reason}]" if reason in _REASONS else plain

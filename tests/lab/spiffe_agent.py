"""
A SPIFFE agent: the Workload API's X.509 part, spoken by a real gRPC server.

Messages and service are generated from the public workload.proto (by the `spiffe`
package). As the standard asks, a call without the security header is refused
(SPIFFE Workload Endpoint section 6.1).
"""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc
from spiffe._proto import workload_pb2, workload_pb2_grpc

HEADER: Final = ("workload.spiffe.io", "true")


class SpiffeAgent(workload_pb2_grpc.SpiffeWorkloadAPIServicer):
    """`with SpiffeAgent(path) as agent: agent.push(...)`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls = 0
        self._last: workload_pb2.X509SVIDResponse | None = None
        self._denied = False
        self._streams: list[queue.SimpleQueue[Any]] = []
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8))
        add: Any = workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server
        add(self, self._server)
        self._server.add_insecure_port(f"unix:{path}")

    @property
    def address(self) -> str:
        """As `identity.workload_api` takes it."""
        return f"unix://{self.path}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Serve no more; the socket is gone."""
        self.hang_up()
        self._server.stop(grace=None).wait(5)

    def push(
        self,
        svids: list[tuple[str, bytes, bytes]],
        bundle: bytes,
        federated: Mapping[str, bytes] | None = None,
    ) -> None:
        """
        What every caller is told, now and at its next call.

        Args: svids are SPIFFE ID, chain (DER) and key (PKCS #8 DER); bundles are DER.
        """
        self._last = workload_pb2.X509SVIDResponse(
            svids=[
                workload_pb2.X509SVID(
                    spiffe_id=name, x509_svid=chain, x509_svid_key=key, bundle=bundle
                )
                for name, chain, key in svids
            ],
            federated_bundles=dict(federated or {}),
        )
        for stream in self._streams:
            stream.put(self._last)

    def deny(self) -> None:
        """The caller is nobody that the agent knows (section 5.3)."""
        self._denied = True

    def hang_up(self) -> None:
        """End every stream, as an agent that is stopped."""
        for stream in self._streams:
            stream.put(None)
        self._streams.clear()

    def FetchX509SVID(  # noqa: N802 - as the service names it
        self, request: workload_pb2.X509SVIDRequest, context: grpc.ServicerContext
    ) -> Iterator[workload_pb2.X509SVIDResponse]:
        """The first answer at once, each change after it."""
        if HEADER not in [tuple(each) for each in context.invocation_metadata()]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing")
        if self._denied:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
        self.calls += 1
        stream: queue.SimpleQueue[Any] = queue.SimpleQueue()
        if self._last is not None:
            stream.put(self._last)
        self._streams.append(stream)
        while (answer := stream.get()) is not None:
            yield answer

"""
Our codec and an independent one, h2, understand each other in both roles.

Each test runs twice: with us as the client of an h2 server, and as the server of an
h2 client.
"""

from __future__ import annotations

from typing import cast

import h2.connection
import h2.events
import pytest
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.exceptions import FlowControlError
from h2.settings import SettingCodes

from agent.hbone.connection import (
    Answered,
    Connection,
    ConnectRequest,
    ConnectRequested,
    DataReceived,
    Event,
    GoAwayReceived,
    PongReceived,
    Role,
    SettingsReceived,
    StreamEnded,
    StreamReset,
    WindowOpened,
)
from agent.hbone.frames import ErrorCode

REQUEST = ConnectRequest(
    "[2001:db8::1]:8080",
    'for="10.0.0.9:4711"',
    "k8s.namespace.name=shop,k8s.pod.name=web",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
TWO_MIB = bytes(range(256)) * (2 * 2**20 // 256)


class Peers:
    """Our connection and h2's, joined in memory; each takes what it receives."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.ours = Connection(role)
        self.theirs = h2.connection.H2Connection(
            H2Configuration(client_side=role is Role.SERVER, header_encoding="utf-8")
        )
        self.told_us: list[Event] = []
        self.told_them: list[h2.events.Event] = []
        self.we_got = bytearray()
        self.they_got = bytearray()
        self.theirs.initiate_connection()
        self.exchange()

    def exchange(self) -> None:
        """Until neither has anything to say."""
        while True:
            to_us, to_them = self.theirs.data_to_send(), self.ours.take_output()
            if not to_us and not to_them:
                return
            self.give_us(to_us)
            self.give_them(to_them)

    def give_us(self, data: bytes) -> None:
        for event in self.ours.receive(data):
            if isinstance(event, DataReceived):
                self.we_got += event.data
                self.ours.consumed(event.stream_id, len(event.data))
            else:
                self.told_us.append(event)

    def give_them(self, data: bytes) -> None:
        for event in self.theirs.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                assert event.data is not None
                assert event.flow_controlled_length is not None
                assert event.stream_id is not None
                self.they_got += event.data
                self.theirs.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
            else:
                self.told_them.append(event)

    def open(self) -> int:
        """A tunnel, asked for by whoever is the client."""
        stream_id = self.ask()
        if self.role is Role.CLIENT:
            self.theirs.send_headers(stream_id, [(":status", "200")])
        else:
            self.ours.accept(stream_id)
        self.exchange()
        return stream_id

    def ask(self) -> int:
        if self.role is Role.CLIENT:
            stream_id = self.ours.open_stream(REQUEST)
        else:
            stream_id = self.theirs.get_next_available_stream_id()
            self.theirs.send_headers(stream_id, h2_request())
        self.exchange()
        return stream_id

    def we_send(self, stream_id: int, payload: bytes) -> None:
        """All of `payload`, at the pace of their windows."""
        while payload:
            size = min(len(payload), self.ours.sendable(stream_id))
            assert size, "no credit came back"
            header = self.ours.take_output() + self.ours.data_header(stream_id, size)
            self.give_them(header + payload[:size])
            payload = payload[size:]
            self.exchange()

    def they_send(self, stream_id: int, payload: bytes) -> None:
        """All of `payload`, at the pace of our windows."""
        while payload:
            size = min(
                len(payload),
                self.theirs.local_flow_control_window(stream_id),
                self.theirs.max_outbound_frame_size,
            )
            assert size, "no credit came back"
            self.theirs.send_data(stream_id, payload[:size], pad_length=None)
            payload = payload[size:]
            self.exchange()

    def heard(self, kind: type[h2.events.Event]) -> list[h2.events.Event]:
        return [event for event in self.told_them if isinstance(event, kind)]


def pairs(
    message: h2.events.RequestReceived | h2.events.ResponseReceived,
) -> list[tuple[str, str]]:
    """The headers of a message as text."""
    return [(str(name), str(value)) for name, value in message.headers or ()]


def h2_request() -> list[tuple[str, str]]:
    return [
        (":method", "CONNECT"),
        (":authority", REQUEST.authority),
        ("baggage", REQUEST.baggage or ""),
        ("forwarded", REQUEST.forwarded or ""),
        ("traceparent", REQUEST.traceparent or ""),
    ]


@pytest.fixture(params=Role, ids=lambda role: f"we are {role.value}")
def peers(request: pytest.FixtureRequest) -> Peers:
    return Peers(cast(Role, request.param))


def test_settings(peers: Peers) -> None:
    """Both take the other's and acknowledge them."""
    assert SettingsReceived() in peers.told_us
    assert peers.heard(h2.events.SettingsAcknowledged)
    assert peers.theirs.remote_settings.initial_window_size == 2**20
    assert peers.theirs.remote_settings.max_header_list_size == 16 * 2**10
    assert peers.theirs.remote_settings.enable_push in {0, 1}


def test_connect(peers: Peers) -> None:
    """The request and its answer arrive with every header, again and again."""
    for _ in range(3):
        stream_id = peers.open()
        if peers.role is Role.SERVER:
            assert ConnectRequested(stream_id, REQUEST) in peers.told_us
            (answer,) = peers.heard(h2.events.ResponseReceived)[-1:]
            assert isinstance(answer, h2.events.ResponseReceived)
            assert pairs(answer) == [(":status", "200")]
        else:
            (asked,) = peers.heard(h2.events.RequestReceived)[-1:]
            assert isinstance(asked, h2.events.RequestReceived)
            assert pairs(asked) == h2_request()
            assert Answered(stream_id, 200, ()) in peers.told_us


def test_bytes_both_ways(peers: Peers) -> None:
    """Far more than any window, intact."""
    stream_id = peers.open()
    peers.we_send(stream_id, TWO_MIB)
    peers.they_send(stream_id, TWO_MIB[::-1])

    assert peers.they_got == TWO_MIB
    assert peers.we_got == TWO_MIB[::-1]


def test_padding(peers: Peers) -> None:
    """Their padding is gone, and its credit is back."""
    stream_id = peers.open()
    for _ in range(100):
        peers.theirs.send_data(stream_id, b"x" * 3_000, pad_length=255)
        peers.exchange()
    peers.they_send(stream_id, TWO_MIB)

    assert peers.we_got == b"x" * 300_000 + TWO_MIB


@pytest.mark.parametrize("we_first", [True, False])
def test_half_close(peers: Peers, we_first: bool) -> None:
    """Either order; the other direction goes on until it ends too."""
    stream_id = peers.open()
    if we_first:
        peers.ours.end_stream(stream_id)
        peers.exchange()
        peers.they_send(stream_id, TWO_MIB)
        peers.theirs.end_stream(stream_id)
        peers.exchange()
        assert peers.we_got == TWO_MIB
    else:
        peers.theirs.end_stream(stream_id)
        peers.exchange()
        peers.we_send(stream_id, TWO_MIB)
        peers.ours.end_stream(stream_id)
        peers.exchange()
        assert peers.they_got == TWO_MIB

    assert StreamEnded(stream_id) in peers.told_us
    assert len(peers.heard(h2.events.StreamEnded)) == 1
    assert peers.ours.open_streams == 0


def test_an_end_with_the_last_bytes(peers: Peers) -> None:
    """DATA and END_STREAM in one frame, both ways."""
    stream_id = peers.open()
    peers.give_them(peers.ours.data_header(stream_id, 4, end=True) + b"last")
    peers.theirs.send_data(stream_id, b"too", end_stream=True)
    peers.exchange()

    assert peers.they_got == b"last"
    assert peers.we_got == b"too"
    assert peers.ours.open_streams == 0


def test_reset_by_us(peers: Peers) -> None:
    """They hear the code, and the connection goes on."""
    stream_id = peers.open()
    peers.ours.reset(stream_id, ErrorCode.CONNECT_ERROR)
    peers.exchange()

    (event,) = peers.heard(h2.events.StreamReset)
    assert isinstance(event, h2.events.StreamReset)
    assert event.error_code == ErrorCodes.CONNECT_ERROR
    assert peers.open() > stream_id


def test_reset_by_them(peers: Peers) -> None:
    """We hear the code, and the connection goes on."""
    stream_id = peers.open()
    peers.theirs.reset_stream(stream_id, ErrorCodes.CANCEL)
    peers.exchange()

    assert StreamReset(stream_id, ErrorCode.CANCEL) in peers.told_us
    assert peers.open() > stream_id


def test_refusal() -> None:
    """401 and its end from us to an h2 client, and the stream is over."""
    peers = Peers(Role.SERVER)
    stream_id = peers.ask()
    peers.ours.refuse(stream_id, 401, "denied by policy shop/web")
    peers.exchange()

    (answer,) = peers.heard(h2.events.ResponseReceived)
    assert isinstance(answer, h2.events.ResponseReceived)
    assert pairs(answer) == [
        (":status", "401"),
        ("reason", "denied by policy shop/web"),
    ]
    assert peers.heard(h2.events.StreamEnded)
    assert peers.open() > stream_id


def test_refusal_by_them() -> None:
    """503 with an end from an h2 server: we hear both and may give up."""
    peers = Peers(Role.CLIENT)
    stream_id = peers.ask()
    peers.theirs.send_headers(stream_id, [(":status", "503")], end_stream=True)
    peers.exchange()

    assert peers.told_us[-2:] == [Answered(stream_id, 503, ()), StreamEnded(stream_id)]
    peers.ours.reset(stream_id, ErrorCode.CANCEL)
    peers.exchange()
    assert peers.open() > stream_id


def test_ping(peers: Peers) -> None:
    """Each answers the other."""
    peers.ours.ping(b"12345678")
    peers.theirs.ping(b"abcdefgh")
    peers.exchange()

    assert PongReceived(b"12345678") in peers.told_us
    (pong,) = peers.heard(h2.events.PingAckReceived)
    assert isinstance(pong, h2.events.PingAckReceived)
    assert pong.ping_data == b"abcdefgh"


def test_goaway_from_us(peers: Peers) -> None:
    """They learn the code and the last stream."""
    stream_id = peers.open()
    peers.ours.goaway(ErrorCode.ENHANCE_YOUR_CALM)
    peers.exchange()

    (event,) = peers.heard(h2.events.ConnectionTerminated)
    assert isinstance(event, h2.events.ConnectionTerminated)
    assert event.error_code == ErrorCodes.ENHANCE_YOUR_CALM
    assert event.last_stream_id == (stream_id if peers.role is Role.SERVER else 0)


def test_goaway_from_them(peers: Peers) -> None:
    """We learn it, and open nothing more."""
    stream_id = peers.open()
    peers.theirs.close_connection(last_stream_id=stream_id, additional_data=b"bye")
    peers.exchange()

    assert peers.told_us[-1] == GoAwayReceived(stream_id, ErrorCode.NO_ERROR, b"bye")
    assert peers.ours.available_streams == 0
    assert peers.ours.open_streams == 1


def test_windows_shrink_and_grow(peers: Peers) -> None:
    """INITIAL_WINDOW_SIZE changes under a live stream, to below zero and back."""
    stream_id = peers.open()
    first = peers.ours.sendable(stream_id)
    peers.theirs.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1_000})
    # What is sent before the change is seen is legal, and puts the window below zero.
    header = peers.ours.data_header(stream_id, first)
    peers.give_us(peers.theirs.data_to_send())
    assert peers.ours.sendable(stream_id) == 0
    peers.give_them(header + bytes(first))
    peers.exchange()
    assert len(peers.they_got) == first

    peers.theirs.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 200_000})
    peers.exchange()
    assert WindowOpened(None) in peers.told_us
    peers.we_send(stream_id, TWO_MIB)
    assert peers.they_got[first:] == TWO_MIB


def test_smaller_and_larger_frames(peers: Peers) -> None:
    """MAX_FRAME_SIZE of the peer bounds each DATA frame."""
    stream_id = peers.open()
    assert peers.ours.sendable(stream_id) == 16_384
    peers.theirs.update_settings({SettingCodes.MAX_FRAME_SIZE: 32_768})
    peers.exchange()

    assert peers.ours.sendable(stream_id) == 32_768


def test_a_header_table_that_shrinks(peers: Peers) -> None:
    """HEADER_TABLE_SIZE 0 and back: both sides' tables keep pace."""
    for size in (0, 100, 4096):
        peers.theirs.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
        peers.exchange()
        peers.open()


def test_their_overrun_is_theirs_to_notice(peers: Peers) -> None:
    """Our windows as h2 counts them are as we count them."""
    stream_id = peers.open()
    window = peers.theirs.local_flow_control_window(stream_id)
    assert window == 2**20

    with pytest.raises(FlowControlError):
        peers.theirs.send_data(stream_id, bytes(window + 1))

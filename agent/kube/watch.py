"""
One kind of object, listed and watched: Kubernetes' protocol without the network.

Theory of operation. `next_request` says what to ask. A list comes as pages, in bodies;
a watch as a stream of lines, each an event, cut anywhere. Out come events: everything
there is (`Listed`, a page at a time, so that nobody holds the bytes of all), one object
(`Stored`, `Removed`), or that this request is over (`Failed`). The machine remembers
how far it has seen (`position`) and the version of each object it told of, so that
nothing is told twice and nothing goes back in time:

- The first list may come from the server's memory, as the kubelet's does (thousands of
  agents must not send it to etcd). Each later list is no older than `position`; after
  a server that has forgotten that version it is the latest, from etcd, in pages.
- Resource versions of one resource are whole numbers that grow (KEP-5504). An event at
  or below an object's own version is a duplicate. One below `position` about an object
  that is not held may be that of a deleted one: then the list is asked for anew.
- A line that cannot be read costs the connection, not the state: the watch goes on
  after the last event that was understood, and where that does not help, with a list.

Source: Kubernetes API concepts, "Efficient detection of changes", "Resource versions".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from agent.kube.failure import Failure, FailureKind, Status, failure_of_status

PAGE_OBJECTS: Final = 500  # as client-go
# An object has at most 1.5 MiB in etcd, and may be larger as JSON.
MAX_LINE_BYTES: Final = 8 << 20
MAX_PAGE_BYTES: Final = 64 << 20
# Kubernetes supports 150,000 pods in a cluster, and fewer of everything else.
MAX_OBJECTS: Final = 300_000
# Servers choose 30 to 60 minutes without this. Ours are shorter, so that a connection
# through a middlebox that forgot it is not silent for long, and spread.
WATCH_SECONDS: Final = 290
WATCH_SPREAD_SECONDS: Final = 290
# So often "I am behind you" is taken for a replica that lags.
AHEAD_TRIES: Final = 3


class Freshness(Enum):
    """How new a list must be."""

    CACHED = "whatever the server has in memory"
    NOT_OLDER = "no older than what we know"
    LATEST = "the latest, from etcd"


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Ask for one page; `query` are its parameters."""

    query: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """Ask for changes; the server ends the stream after `seconds`."""

    query: tuple[tuple[str, str], ...]
    seconds: int


class Key(NamedTuple):
    """Of one kind; `namespace` is "" for what has none."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """An object as it came: JSON, its key and its version."""

    key: Key
    uid: str
    version: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """
    A page of all that there are; they are in force once the last one has come.

    The first one of a list makes what came of an earlier list void.
    """

    items: tuple[Item, ...]
    is_first: bool = True
    is_last: bool = True


@dataclass(frozen=True, slots=True)
class Stored:
    """This one is new, or as it is now."""

    item: Item


@dataclass(frozen=True, slots=True)
class Removed:
    """This one is gone, or is not selected any more."""

    key: Key


@dataclass(frozen=True, slots=True)
class Failed:
    """The request is over: wait as the failure says, then ask `next_request`."""

    failure: Failure


Event = Listed | Stored | Removed | Failed


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta


class _ListMeta(msgspec.Struct, frozen=True, rename={"more": "continue"}):
    resourceVersion: str = ""  # noqa: N815 - beside a field that is renamed by hand
    more: str = ""


class _Page(msgspec.Struct, frozen=True):
    metadata: _ListMeta
    items: tuple[msgspec.Raw, ...] | None = None


class _Line(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


_LINES: Final = msgspec.json.Decoder(_Line)
_OBJECTS: Final = msgspec.json.Decoder(_Object)
_PAGES: Final = msgspec.json.Decoder(_Page)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _NotReadable(Exception):
    """What came is not what the protocol says; the message is for people."""


@dataclass(frozen=True, slots=True)
class _Held:
    uid: str
    version: int


class Watch:
    """The machine; one request at a time."""

    def __init__(self, selectors: tuple[tuple[str, str], ...] = ()) -> None:
        """`selectors`: labelSelector and fieldSelector, as parameters."""
        self._selectors = selectors
        self._held: dict[Key, _Held] = {}
        self._position: int | None = None
        self._listing = True
        self._freshness = Freshness.CACHED
        self._page_objects = PAGE_OBJECTS
        self._listed: dict[Key, _Held] = {}
        self._more = ""
        self._buffer = bytearray()
        self._over = False
        self._in_vain_from: int | None = None
        self._ahead = 0

    @property
    def position(self) -> int | None:
        """The version up to which everything is known; None before the first list."""
        return self._position

    @property
    def is_listing(self) -> bool:
        """Whether the next request is for a list."""
        return self._listing

    def next_request(self, jitter: float) -> ListRequest | WatchRequest:
        """What to ask now; whatever was under way before is given up."""
        self._buffer.clear()
        self._over = False
        if self._listing:
            return ListRequest((*self._selectors, *self._list_parameters()))
        seconds = WATCH_SECONDS + int(WATCH_SPREAD_SECONDS * jitter)
        return WatchRequest(
            (
                *self._selectors,
                ("watch", "1"),
                ("allowWatchBookmarks", "true"),
                ("resourceVersion", str(self._position)),
                ("timeoutSeconds", str(seconds)),
            ),
            seconds,
        )

    def _list_parameters(self) -> tuple[tuple[str, str], ...]:
        # With a limit an older server asks etcd, whatever version is named: so only
        # the latest is paged, and what comes from memory is bounded by its size.
        match self._freshness:
            case Freshness.CACHED:
                return (("resourceVersion", "0"),)
            case Freshness.NOT_OLDER:
                return (
                    ("resourceVersion", str(self._position)),
                    ("resourceVersionMatch", "NotOlderThan"),
                )
            case Freshness.LATEST:
                limit = ("limit", str(self._page_objects))
                return (limit, ("continue", self._more)) if self._more else (limit,)

    def page(self, body: bytes) -> Listed | Failed:
        """One page of a list."""
        try:
            page = _PAGES.decode(body)
            items = tuple(_item(raw) for raw in page.items or ())
            position = _version(page.metadata.resourceVersion, "the list")
        except (*_UNREADABLE, _NotReadable) as error:
            return self.failed(Failure(FailureKind.GARBAGE, f"list: {error}"))
        if len(self._listed) + len(items) > MAX_OBJECTS:
            text = f"list: more than {MAX_OBJECTS} objects"
            return self.failed(Failure(FailureKind.REFUSED, text))
        is_first = not self._more
        self._listed |= {item.key: _Held(item.uid, item.version) for item in items}
        self._more = page.metadata.more
        if self._more:
            self._freshness = Freshness.LATEST
            return Listed(items, is_first, is_last=False)
        self._held, self._listed = self._listed, {}
        self._position = position
        self._listing, self._ahead = False, 0
        return Listed(items, is_first)

    def receive(self, chunk: bytes) -> list[Event]:
        """Bytes of a watch's stream, cut anywhere; after a Failed nothing is read."""
        events: list[Event] = []
        self._buffer += chunk
        start = 0
        while not self._over and (end := self._buffer.find(b"\n", start)) >= 0:
            event = self._line(bytes(self._buffer[start:end]))
            start = end + 1
            if event is not None:
                events.append(event)
        del self._buffer[:start]
        if not self._over and len(self._buffer) > MAX_LINE_BYTES:
            text = f"an event of more than {MAX_LINE_BYTES} bytes"
            events.append(self._broken(text))
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line.strip():
            return None
        try:
            told = _LINES.decode(line)
            if told.type == "ERROR":
                return self._error(told.object)
            if told.type == "BOOKMARK":
                self._bookmark(told.object)
                return None
            item = _item(told.object)
        except (*_UNREADABLE, _NotReadable) as error:
            return self._broken(f"event: {error}")
        if told.type in ("ADDED", "MODIFIED"):
            return self._stored(item)
        if told.type == "DELETED":
            return self._removed(item)
        return self._broken(f"event: type {told.type[:40]!r} is not known")

    def _error(self, raw: msgspec.Raw) -> Failed:
        status = msgspec.json.decode(raw, type=Status)
        return self.failed(failure_of_status(status, status.code or 500))

    def _bookmark(self, raw: msgspec.Raw) -> None:
        version = _OBJECTS.decode(raw).metadata.resource_version
        self._advance(_version(version, "the bookmark"))

    def _stored(self, item: Item) -> Event | None:
        held = self._held.get(item.key)
        if held is not None and item.version <= held.version:
            return None  # a duplicate, or out of order
        if held is None and item.version <= (self._position or 0):
            return self._disorder(item)
        if held is None and len(self._held) >= MAX_OBJECTS:
            text = f"more than {MAX_OBJECTS} objects"
            return self.failed(Failure(FailureKind.REFUSED, text))
        self._held[item.key] = _Held(item.uid, item.version)
        self._advance(item.version)
        return Stored(item)

    def _removed(self, item: Item) -> Removed | None:
        held = self._held.get(item.key)
        self._advance(item.version)
        # An older object of that name may be told to be gone after the new one came.
        if held is None or (item.version < held.version and item.uid != held.uid):
            return None
        del self._held[item.key]
        return Removed(item.key)

    def _advance(self, version: int) -> None:
        self._position = max(self._position or 0, version)
        self._in_vain_from = None

    def _disorder(self, item: Item) -> Failed:
        """Older than what we know of, and not held: perhaps of a deleted object."""
        self._relist()
        text = f"event about {'/'.join(item.key)} at version {item.version} is out of"
        return self._fail(Failure(FailureKind.GARBAGE, f"{text} order"))

    def _broken(self, text: str) -> Failed:
        return self.failed(Failure(FailureKind.GARBAGE, text))

    def failed(self, failure: Failure) -> Failed:
        """The request that was under way has failed: what to do other than before."""
        match failure.kind:
            case FailureKind.EXPIRED:
                # Of a list too: the version it was to be no older than, or the token
                # of its next page.
                if self._listing:
                    self._freshness = Freshness.LATEST
                else:
                    self._relist()
            case FailureKind.AHEAD:
                self._ahead += 1
                if self._ahead >= AHEAD_TRIES:
                    self._relist()
                    self._freshness = Freshness.LATEST
            case FailureKind.OVERSIZE if self._listing:
                if self._freshness is Freshness.LATEST:
                    self._page_objects = max(1, self._page_objects // 2)
                self._freshness = Freshness.LATEST
            case FailureKind.GARBAGE if not self._listing:
                if self._in_vain_from == self._position:
                    self._relist()
                self._in_vain_from = self._position
        self._listed, self._more = {}, ""
        return self._fail(failure)

    def ended(self) -> None:
        """The stream ended. Half a line is of no use: its event comes again."""
        self._buffer.clear()

    def relist(self) -> None:
        """Ask for everything again: the objects are served at another place now."""
        self._relist()

    def _relist(self) -> None:
        self._listing = True
        self._freshness = (
            Freshness.CACHED if self._position is None else Freshness.NOT_OLDER
        )
        self._listed, self._more = {}, ""

    def _fail(self, failure: Failure) -> Failed:
        self._over = True
        self._buffer.clear()
        return Failed(failure)


def _item(raw: msgspec.Raw) -> Item:
    """Raises: _NotReadable, msgspec.DecodeError."""
    meta = _OBJECTS.decode(raw).metadata
    if not meta.name:
        raise _NotReadable("an object without a name")
    key = Key(meta.namespace, meta.name)
    version = _version(meta.resource_version, "/".join(key))
    return Item(key, meta.uid, version, bytes(raw))


def _version(text: str, of: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _NotReadable(f"{of[:200]}: resourceVersion {text[:40]!r} is no number")
    return int(text)

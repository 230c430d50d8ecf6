"""
YAML (or JSON) text to plain values, within limits.

Kubernetes writes YAML that is JSON with another spelling, so nothing else is read:
no tags but `!!str`, no dates, no key twice in one mapping. Depth and size are checked
on the parser's events, with aliases counted for what they stand for, before any value
is built: neither deep nesting nor a bomb of aliases gets that far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import yaml

from agent.errors import InputError

MAX_FILE_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 64  # a Pod needs about 12
MAX_NODES: Final = 200_000  # per file; an object of 100 lines has about 300

_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
_TAGS: Final = frozenset({None, "!", "tag:yaml.org,2002:str"})


class _Mark(Protocol):
    """A place in the text; libyaml's and PyYAML's own differ in type only."""

    @property
    def line(self) -> int: ...


class InvalidManifest(InputError):
    """Text that is not a manifest; `line` counts from 1, where it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message, line)
        self.message = message
        self.line = line

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file, and the line where it starts, counted from 1."""

    line: int
    value: Any


def parse_documents(data: bytes) -> tuple[Document, ...]:
    """
    All documents of one file.

    Raises: InvalidManifest, with the line, for what is not YAML or over a limit.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InvalidManifest(f"the file has more than {MAX_FILE_BYTES} bytes")
    try:
        _check_events(data)
        return _construct(data)
    except yaml.MarkedYAMLError as error:
        line = _line(error.problem_mark or error.context_mark)
        fault = ", ".join(text for text in (error.context, error.problem) if text)
        raise InvalidManifest(f"not valid YAML: {fault}", line) from error
    except (yaml.YAMLError, ValueError) as error:
        # A number of thousands of digits is a ValueError of int().
        first_line = str(error).partition("\n")[0]
        raise InvalidManifest(f"not valid YAML: {first_line[:200]}") from error


class _Loader(yaml.CSafeLoader):
    """Values as JSON has them: a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it, and so mutable
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def _construct(data: bytes) -> tuple[Document, ...]:
    loader = _Loader(data)
    documents = []
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node said so
            line = _line(node.start_mark)
            _check_keys(node)
            try:
                documents.append(Document(line, loader.construct_document(node)))
            except ValueError as error:
                raise InvalidManifest(
                    f"not a value: {str(error)[:200]}", line
                ) from error
    finally:
        loader.dispose()
    return tuple(documents)


def _check_keys(root: yaml.Node) -> None:
    """
    Raises: InvalidManifest for a key that a mapping has twice; PyYAML takes the last.

    Before construction, which writes merged keys into the same nodes.
    """
    todo, seen = [root], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                todo += (key, value)
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        message = f"key {key.value[:80]!r} is there twice"
                        raise InvalidManifest(message, _line(key.start_mark))
                    keys.add(key.value)


@dataclass(slots=True)
class _Extent:
    """How many nodes a collection has inside, and how deep they go."""

    anchor: str | None
    nodes: int = 1
    height: int = 1

    def take(self, nodes: int, height: int) -> None:
        self.nodes += nodes
        self.height = max(self.height, height + 1)


@dataclass(slots=True)
class _Limits:
    """Counts one file's nodes; an alias counts as all that it stands for."""

    nodes: int = 0
    open: list[_Extent] = field(default_factory=list)
    anchors: dict[str, _Extent] = field(default_factory=dict)

    def see(self, event: yaml.Event) -> None:
        """Raises: InvalidManifest where the file is over a limit."""
        match event:
            case yaml.DocumentStartEvent():
                self.anchors.clear()
            case yaml.AliasEvent():
                extent = self.anchors.get(event.anchor or "")
                if extent is None:
                    # Also a collection inside itself, which is still open.
                    raise _refused(event, f"alias *{event.anchor} has no value before")
                self._add(event, extent)
            case yaml.ScalarEvent():
                self._check_tag(event)
                self._add(event, _Extent(event.anchor, height=0))
            case yaml.CollectionStartEvent():
                self._check_tag(event)
                self.open.append(_Extent(event.anchor))
                if len(self.open) > MAX_DEPTH:
                    raise _refused(event, f"nested more than {MAX_DEPTH} deep")
            case yaml.CollectionEndEvent():
                self._add(event, self.open.pop())

    def _add(self, event: yaml.Event, extent: _Extent) -> None:
        if len(self.open) + extent.height > MAX_DEPTH:
            raise _refused(event, f"nested more than {MAX_DEPTH} deep")
        self.nodes += extent.nodes if isinstance(event, yaml.AliasEvent) else 1
        if self.nodes > MAX_NODES:
            raise _refused(event, f"more than {MAX_NODES} values, with aliases")
        if self.open:
            self.open[-1].take(extent.nodes, extent.height)
        if extent.anchor is not None:
            self.anchors[extent.anchor] = extent

    def _check_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag not in _TAGS:
            raise _refused(event, f"tag {event.tag!s:.80} is not used in manifests")


def _check_events(data: bytes) -> None:
    limits = _Limits()
    for event in yaml.parse(data, Loader=yaml.CSafeLoader):
        limits.see(event)


def _refused(event: yaml.Event, message: str) -> InvalidManifest:
    return InvalidManifest(message, _line(event.start_mark))


def _line(mark: _Mark | None) -> int:
    return mark.line + 1 if mark else 1

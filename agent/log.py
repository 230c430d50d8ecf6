"""
Structured logs: a constant event name, facts as keys, one line per connection.

Cores do not log. Edges ask for a logger once, bind what does not change (`node`,
`pod`, `peer`) and write facts as keys, never into the event name.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, TextIO


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """As if it were not installed (`sys.modules`: None makes an import fail)."""
    found = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        if found is not None:
            sys.modules[package] = found


# structlog loads rich where it is, to paint tracebacks: 4 MB of each worker for what
# `format_exc_info` has made text of already.
with _hidden("rich"):
    import structlog

Logger = structlog.typing.FilteringBoundLogger
LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

SECRET_KEYS: Final = frozenset({"token", "key", "private_key", "authorization"})


def redact(
    _logger: object, _method: str, facts: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Secrets cannot print, even when a caller forgets."""
    for name in SECRET_KEYS.intersection(facts):
        facts[name] = "..."
    return facts


def configure(
    level: LogLevel = "info", form: LogFormat = "json", stream: TextIO | None = None
) -> None:
    """Set up structlog for this process; called once, by its composition root."""
    out = stream or sys.stderr
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def logger(**facts: object) -> Logger:
    """A logger with `facts` bound."""
    bound: Logger = structlog.get_logger(**facts)
    return bound

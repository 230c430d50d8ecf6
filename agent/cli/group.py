"""
How commands fail: one line on stderr, and an exit code that says whose turn it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import click

from agent.cli.output import echo_block
from agent.config import ConfigError
from agent.errors import PodlockError

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130  # 128 and SIGINT, as shells have it


class PodlockGroup(click.Group):
    """A click group that prints our errors as `podlock: error: ...`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were added, not by the alphabet."""
        del ctx
        return list(self.commands)

    # click's own signature is an overload on `standalone_mode`; both fit this one.
    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line; leaves by SystemExit."""
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as nothing_asked:
            nothing_asked.show()
            sys.exit(USAGE)
        except click.UsageError as error:
            if error.ctx is not None:
                echo_block(error.ctx.get_usage(), err=True)
            fail(USAGE, error.format_message())
        except click.ClickException as error:
            fail(FAILED, error.format_message())
        except PodlockError as error:
            fail(USAGE if isinstance(error, ConfigError) else FAILED, str(error))
        except ExceptionGroup as group:
            fail(FAILED, *(str(error) for error in _ours(group)))
        except click.Abort:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            _abandon_stdout()
            sys.exit(FAILED)
        sys.exit(code if isinstance(code, int) else 0)


def fail(code: int, *messages: str) -> NoReturn:
    """Print each message as an error and leave with `code`."""
    for message in messages:
        echo_block(f"podlock: error: {message}", err=True)
    sys.exit(code)


def _ours(group: ExceptionGroup[Exception]) -> Iterator[PodlockError]:
    """The errors in a nursery's group; the group itself where one is an accident."""
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _ours(error)
        elif isinstance(error, PodlockError):
            yield error
        else:
            raise group


def _abandon_stdout() -> None:
    """`podlock connections | head` is fine; the flush at exit must not complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())

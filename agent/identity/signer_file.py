"""
Certificates of issuers and anchors that came from a file: errors name it.

Whoever reads such a file does so here, or uses what it holds inside `naming`. So an
error says which file and, of several certificates in it, which one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from agent.errors import InputError
from agent.identity import pem
from agent.identity.state import AuthorityRefused
from agent.identity.store import InvalidKeystore, read_file


@contextlib.contextmanager
def signers_in(path: Path) -> Iterator[bytes]:
    """The PEM in a file, and `naming` it. Raises: InvalidKeystore."""
    content = read_file(path)
    with naming(path, content):
        yield content


@contextlib.contextmanager
def naming(path: Path | str, content: bytes) -> Iterator[None]:
    """
    Errors about what a file holds name it, and the certificate of several.

    Raises: InvalidKeystore in place of InputError, AuthorityRefused. An error that
    names a file already, or is about nodes, passes as it is.
    """
    try:
        yield
    except InvalidKeystore:
        raise
    except InputError as error:
        raise InvalidKeystore(f"{path}: {_position(error, content)}{error}") from error
    except AuthorityRefused as error:
        if type(error) is not AuthorityRefused:
            raise
        raise AuthorityRefused(f"{path}: {error}") from error


def _position(error: InputError, content: bytes) -> str:
    """Which certificate of the file an error is about; nothing where it has one."""
    der = getattr(error, "der", None)
    try:
        ders = pem.parse(content, pem.CERTIFICATE)
    except pem.InvalidPem:
        return ""
    if len(ders) < 2 or der not in ders:
        return ""
    return f"certificate {ders.index(der) + 1} of {len(ders)}: "

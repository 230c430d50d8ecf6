"""The names of clients in Istio's policies: refused where nothing can have them."""

from __future__ import annotations

import re
from typing import Final

from agent.identity.spiffe import SCHEME, InvalidSpiffeId, SpiffeId

_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAMESPACE_PART: Final = re.compile(r"[-a-z0-9]{0,63}")


def check_principal(text: str) -> None:
    """Refuse what no SPIFFE ID without its scheme can match: a DENY would be open."""
    if text.startswith(SCHEME):
        raise ValueError(f"principal {text[:80]!r}: expected no {SCHEME} before it")
    if "*" not in text:
        try:
            SpiffeId.parse(f"{SCHEME}{text}")
        except InvalidSpiffeId as error:
            raise ValueError(
                f"principal {text[:80]!r}: expected "
                f"TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT: {error}"
            ) from error


def check_namespace(text: str) -> None:
    """Refuse what is no namespace's name; in a pattern, what no name contains."""
    given = text.replace("*", "")
    allowed = _NAMESPACE_PART if "*" in text else _NAMESPACE
    if not allowed.fullmatch(given):
        raise ValueError(f"{text[:80]!r}: no namespace can have this name")

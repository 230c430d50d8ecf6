"""
Text that does to a terminal what text does (pure).

Names and values come from manifests, file names and peers: an escape sequence in one
would move the cursor, a newline would forge a line, U+202E would turn the line around.
"""

from __future__ import annotations


def escaped(text: str, *, keep: str = "") -> str:
    r"""Every character that is not printable as `\uXXXX`, but those in `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _code(c) for c in text)


def _code(character: str) -> str:
    r"""As JSON has it (RFC 8259 section 7): two units above U+FFFF."""
    units = character.encode("utf-16-be", "surrogatepass")
    pairs = (units[at : at + 2] for at in range(0, len(units), 2))
    return "".join(f"\\u{pair.hex()}" for pair in pairs)

"""`python -m agent` and the `podlock` command."""

from __future__ import annotations

from agent.cli import podlock


def main() -> None:
    """Run the command line; leaves by SystemExit."""
    podlock.main(prog_name="podlock")


if __name__ == "__main__":
    main()

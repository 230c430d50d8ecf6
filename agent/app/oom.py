"""Which of the agent's processes the kernel ends first when memory runs out (I/O)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.log import logger

log = logger()

SCORE: Final = Path("/proc/self/oom_score_adj")
# Of 1000, which is all memory: a worker goes before control, which holds the policy and
# starts it again. To raise one's own score needs no privilege (proc(5)).
ABOVE_CONTROL: Final = 200
_HIGHEST: Final = 1000


def go_before_control(score: Path = SCORE) -> None:
    """Raise this process's score above its parent's, which it has inherited."""
    try:
        inherited = int(score.read_text())
        score.write_text(str(min(inherited + ABOVE_CONTROL, _HIGHEST)))
    except (OSError, ValueError) as error:
        log.warning("oom_score_adj not raised", error=str(error))

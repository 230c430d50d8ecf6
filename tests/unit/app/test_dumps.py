"""A process that holds keys leaves none of them behind: the kernel is asked."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

SET_UP = """\
import ctypes, os, resource
from agent.app.dumps import forbid_dumps
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
forbid_dumps()
"""
ASK = """\
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
"""
LOAD_A_KEY = """\
import ssl
from datetime import UTC, datetime
from agent.identity.context import load_credential
from tests.unit.identity.parts import API, credential_for, make_authority
now = datetime.now(UTC)
credential = credential_for(make_authority(now), API, now)
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
    forbid_dumps()
load_credential(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), credential)
print("loaded")
"""
REPOSITORY = Path(__file__).parents[3]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SET_UP + code],
        text=True,
        capture_output=True,
        check=False,
        cwd=REPOSITORY,
    )


def test_the_kernel_says_so() -> None:
    """PR_GET_DUMPABLE is 0, and the limit is 0, hard and soft."""
    assert run(ASK).stdout == "0 (0, 0)\n"


def test_a_crash_leaves_nothing(tmp_path: Path) -> None:
    """The parent hears of the signal, and of no core (waitpid(2), WCOREDUMP)."""
    done = run(f"os.chdir({str(tmp_path)!r}); os.abort()")
    assert done.returncode == -signal.SIGABRT
    assert not list(tmp_path.iterdir())


def test_keys_can_still_be_loaded() -> None:
    """/proc/self belongs to root then; a service without privileges needs its fd."""
    done = run(LOAD_A_KEY)
    assert done.stdout == "loaded\n", done.stderr

"""
The loader process: compile, attach, pin, and be gone.

    python -m agent.redirect.loader --source DIR --pins DIR --cgroup DIR --headers DIR

The only importer of bcc, so that LLVM is resident for seconds and not for days. It
prints one line of JSON (`LoadReport`) and exits 0, or one line on stderr and exits 1.
Run again it finds its own work and does nothing.

Programs are attached by links, which live on as pins. A set in force is replaced in
this order: enrolments copied, new links attached beside the old, old links removed.
So an enrolled pod is redirected at every moment; what connects during the overlap is
noted in the old maps alone and is refused by the agent that reads the new ones.
Sockets connected before the change keep working, but from then on show loopback as
their peer, since that was kept by the old programs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from agent.errors import KernelError, PodlockError
from agent.redirect import bpffs, pins, pinset, records
from agent.redirect.features import SWITCHES
from agent.redirect.headers import make_headers
from agent.redirect.layout import (
    BAR_HOOKS,
    CGROUP_HOOKS,
    HOOKS,
    MAPS,
    Hook,
    PinLayout,
    Ports,
)
from agent.redirect.program import LoadReport

# No new direct connection is made meanwhile: without an agent they are refused.
CARRIED_OVER: Final = ("verdicts", "noted", "traces", "judged")


def load(
    source: Path,
    layout: PinLayout,
    cgroup: Path,
    headers: Path,
    ports: Ports,
    switches: Sequence[str] = (),
) -> LoadReport:
    """
    See to it that the programs of `source` are attached to `cgroup` and pinned.

    `headers`: a folder that `make_headers` filled; filled here if it is missing.
    `switches`: fallbacks, as `features.switches` has them.

    Raises: KernelError; then everything is as it was before.
    """
    mounted = bpffs.ensure_mounted(layout.root)
    digest = pinset.fingerprint_of(source, cgroup, ports, switches)
    defines = [*ports.defines(), *(f"-D{name}" for name in switches)]
    layout.root.parent.mkdir(parents=True, exist_ok=True)
    with bpffs.exclusive(layout.root.parent):
        pinset.recover(layout)
        replacing = layout.root.exists()
        if pinset.is_current(layout, digest):
            return LoadReport("reused", digest.hex(), str(cgroup), mounted)
        try:
            _build(source, layout, cgroup, headers, defines, digest)
        except BaseException:
            pinset.remove(layout.next)
            raise
        pinset.publish(layout)
    return LoadReport(
        "replaced" if replacing else "loaded", digest.hex(), str(cgroup), mounted
    )


def _build(
    source: Path,
    layout: PinLayout,
    cgroup: Path,
    headers: Path,
    defines: Sequence[str],
    digest: bytes,
) -> None:
    """A complete set at `layout.next`: maps, programs, then the links."""
    staged = layout.next
    for folder in staged.folders:
        folder.mkdir(parents=True)
    bpf = compiled(source, headers, defines)
    for name in MAPS:
        pins.pin(_map_fd(bpf, name), staged.maps / name)
    _fill(layout, digest)
    programs = {hook: _loaded(bpf, hook) for hook in HOOKS}
    for hook, fd in programs.items():
        pins.pin(fd, staged.programs / hook.name)
    for hook in BAR_HOOKS:
        pins.attach_to_map(programs[hook], _map_fd(bpf, "barred"), hook.attach)
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for hook in CGROUP_HOOKS:
            _attach(hook, programs[hook], target, staged.links / hook.name)
    finally:
        os.close(target)


def compiled(source: Path, headers: Path, defines: Sequence[str]) -> Any:
    """bcc's object for redirect.c. Raises: KernelError; clang's words go to stderr."""
    if not (headers / "include").is_dir():
        make_headers(headers)
    os.putenv("BCC_KERNEL_SOURCE", str(headers))  # libbcc reads it with getenv
    try:
        from bcc import BPF
    except ImportError as error:
        raise KernelError(f"{error}: install Debian's python3-bpfcc") from error
    main = source / "redirect.c"
    try:
        # bcc warns of text and so wants bytes; -I is for maps.h and records.h.
        return BPF(src_file=bytes(main), cflags=[f"-I{source}", *defines])
    except Exception as error:  # bcc raises nothing narrower
        raise KernelError(f"compile {main}: {error}") from error


def _loaded(bpf: Any, hook: Hook) -> int:
    try:
        function = bpf.load_func(
            hook.name.encode(), int(hook.program), attach_type=int(hook.attach)
        )
    except Exception as error:  # bcc raises nothing narrower
        raise KernelError(f"load the program {hook.name}: {error}") from error
    fd: int = function.fd
    return fd


def _map_fd(bpf: Any, name: str) -> int:
    """By libbcc: bcc 0.26 has no Table for a sockhash or socket storage."""
    from bcc import lib

    fd: int = lib.bpf_table_fd(bpf.module, name.encode())
    if fd < 0:
        raise KernelError(f"map {name}: not in the compiled programs")
    return fd


def _fill(layout: PinLayout, digest: bytes) -> None:
    """
    What a new set knows before it is attached: its origin, who is enrolled, and the
    direct connections, which live through the change and must be judged after it.
    """
    about = pins.PinnedMap.open(layout.next.maps / "about")
    about.put(records.pack_u32(0), digest)
    about.close()
    try:
        before = pins.PinnedMap.open(layout.maps / "enrolled")
    except pins.MissingPin:
        return
    enrolled = pins.PinnedMap.open(layout.next.maps / "enrolled")
    for cookie, pod in before.items():
        # A record of another version: enrolled without addresses, until captured.
        known = pod if len(pod) == records.POD_BYTES else records.pack_pod(())
        enrolled.put(cookie, known)
    before.close()
    enrolled.close()
    for name in CARRIED_OVER:
        _copy(layout.maps / name, layout.next.maps / name)


def _copy(old: Path, new: Path) -> None:
    """Every entry, where both maps have records of the same size."""
    try:
        before = pins.PinnedMap.open(old)
    except pins.MissingPin:
        return
    after = pins.PinnedMap.open(new)
    if before.sizes == after.sizes:
        for key, value in before.items():
            after.put(key, value)
    before.close()
    after.close()


def _attach(hook: Hook, program: int, target: int, path: Path) -> None:
    link = pins.link_create(program, target, hook.attach, f"{hook.name} to the cgroup")
    try:
        pins.pin(link, path)
    finally:
        os.close(link)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("podlock-loader", description="Load the redirect.")
    for name in ("source", "pins", "cgroup", "headers"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    for name, port in asdict(Ports()).items():
        parser.add_argument(f"--{name}-port", type=int, default=port, metavar="PORT")
    parser.add_argument("--switch", action="append", default=[], choices=SWITCHES)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    given = _arguments(argv)
    try:
        report = load(
            source=given.source.resolve(),
            layout=PinLayout(given.pins),
            cgroup=bpffs.find_cgroup(given.cgroup),
            headers=given.headers.resolve(),
            ports=Ports(given.outbound_port, given.inbound_port, given.tunnel_port),
            switches=given.switch,
        )
    except (PodlockError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(report)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Foreign trust domains' bundles, from where they are published into our authority."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Final

import trio

from agent.app.authority import RunningAuthority
from agent.dependencies import Dependencies
from agent.errors import PodlockError
from agent.identity.bundle import Bundle
from agent.identity.clock import utc_now
from agent.identity.federated import FederatedDomain
from agent.identity.federation import Federation, Tell
from agent.identity.operations import federate
from agent.log import logger

# A full disk, or somebody else who changes the authority.
AGAIN: Final = timedelta(seconds=5)

log = logger(part="federation")


async def keep_federated(
    domains: Iterable[FederatedDomain],
    running: RunningAuthority,
    tell: Tell,
    dependencies: Dependencies | None = None,
) -> None:
    """
    Keep the authority's foreign bundles those of `domains`, until cancelled.

    What was learned is in the authority's state, so it holds from the first moment of
    the next start; a domain that is configured no more is taken out.
    """
    store, changed = running.source.store, trio.Event()

    def note(bundles: tuple[Bundle, ...]) -> None:
        del bundles  # asked for when they are written: the latest count
        changed.set()

    known = running.source.state.federated
    federation = Federation(
        domains, note, known=known, tell=tell, dependencies=dependencies
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(federation.run)
        while True:
            await changed.wait()
            changed = trio.Event()
            write = partial(federate, store, federation.bundles, utc_now())
            try:
                await trio.to_thread.run_sync(write)
            except (PodlockError, OSError) as error:
                log.error("federated bundles not stored", error=str(error))
                tell("federation-failed", str(store.directory), str(error))
                await trio.sleep(AGAIN.total_seconds())
                changed.set()

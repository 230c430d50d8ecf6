"""Asks, all the time, for what policy never permits; each answer is a breach."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from tests.demo.calls import curl, url
from tests.lab import apps
from tests.soak.world import DENIED, World

CLIENT: Final = "web"
PAUSE_SECONDS: Final = 0.05


@dataclass(slots=True)
class Denied:
    """`with Denied(world):` counts what was `asked` and what was `served`."""

    world: World
    asked: int = 0
    served: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def serve(self) -> None:
        """Start what nobody may ask."""
        apps.start_nginx(self.world.pods[DENIED], {"index.html": "secret\n"})

    def __enter__(self) -> Denied:
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def _ask(self) -> None:
        address = self.world.pods[DENIED].address
        while not self._over.wait(PAUSE_SECONDS):
            for each in address:
                answer = curl(self.world.pods[CLIENT], url(each), "-m", "3")
                self.asked += 1
                if answer.served:
                    self.served.append(f"{CLIENT} -> {DENIED} at {each}")

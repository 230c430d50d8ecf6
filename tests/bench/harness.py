"""The rounds: for every case each contestant in turn, so that noise hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tests.bench.cases import Case, Effort
from tests.bench.contestants import Contestant
from tests.bench.load import Load
from tests.bench.statistics import Run
from tests.bench.world import Route, Scope, memory
from tests.lab import system

Watch = Callable[[int, int, Run], None]


def plan(
    effort: Effort,
    cases: Sequence[Case],
    scopes: Sequence[Scope],
    contestants: Sequence[Contestant],
) -> Iterator[tuple[int, Scope, Case, Contestant]]:
    """
    Every run in order: A B C in a case, then the next case; then all of it again.

    What is asked once comes first, from few connections to many in all scopes, while
    nobody's heap has grown by anything else.
    """
    single = [(scope, case) for case in cases if case.once for scope in scopes]
    repeated = [(scope, case) for scope in scopes for case in cases if not case.once]
    rounds = [single, *[repeated] * effort.rounds]
    for index, asked in enumerate(rounds):
        for scope, case in asked:
            for contestant in (who for who in contestants if scope in who.scopes):
                yield max(index - 1, 0), scope, case, contestant


def rested(contestant: Contestant, scope: Scope) -> Route:
    """A contestant's route, weighed before its first load."""
    route = contestant.route(scope)
    return replace(route, rest_bytes=memory(route.cgroups))


def perform(
    load: Load,
    effort: Effort,
    cases: Sequence[Case],
    scopes: Sequence[Scope],
    contestants: Sequence[Contestant],
    watch: Watch,
) -> list[Run]:
    """Carry out the plan; what fails is noted and does not stop the others."""
    steps = list(plan(effort, cases, scopes, contestants))
    routes = {
        (scope, who.name): rested(who, scope)
        for scope in scopes
        for who in contestants
        if scope in who.scopes
    }
    runs: list[Run] = []
    for done, (number, scope, case, contestant) in enumerate(steps, 1):
        try:
            figures = case.measure(load, routes[scope, contestant.name], effort)
            run = Run(number, scope, case.name, contestant.name, figures)
        except (system.LabError, OSError) as error:
            why = str(error)
            run = Run(number, scope, case.name, contestant.name, {}, why)
        runs.append(run)
        watch(done, len(steps), run)
    return runs

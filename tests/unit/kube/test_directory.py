"""A directory of manifests is followed through edits, swaps and loss."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from agent.kube.directory import MAX_UNSETTLED_POLLS, Watcher, run
from agent.kube.last_good import LastGood
from agent.kube.manifests import Change
from agent.policy.istio import EVERY_NAMESPACE


def pod(name: str) -> str:
    return f"{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}}}\n"


def names(change: Change | None) -> list[str]:
    assert change is not None, "nothing changed"
    return [item.name for item in change.objects.workloads]


def settled(watcher: Watcher) -> Change | None:
    """What two looks in a row say."""
    return watcher.poll() or watcher.poll()


class TestWatcher:
    def test_the_first_look_counts_at_once(self, tmp_path: Path) -> None:
        """A start does not wait for a second look; other files are not ours."""
        (tmp_path / "a.yaml").write_text(pod("a"))
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / "deep" / "er" / "b.yml").write_text(pod("b"))
        (tmp_path / "c.json").write_text(pod("c").replace("kind", '"kind"'))
        (tmp_path / "d.txt").write_text(pod("d"))
        (tmp_path / ".hidden.yaml").write_text(pod("e"))

        assert names(Watcher(tmp_path).poll()) == ["a", "b", "c"]

    def test_without_a_change_there_is_no_news(self, tmp_path: Path) -> None:
        """Looking is not telling."""
        (tmp_path / "a.yaml").write_text(pod("a"))
        watcher = Watcher(tmp_path)
        watcher.poll()

        assert watcher.poll() is None
        assert watcher.poll() is None

    def test_a_change_counts_once_it_rests(self, tmp_path: Path) -> None:
        """A file that is just being written is not believed."""
        file = tmp_path / "a.yaml"
        file.write_text(pod("a"))
        watcher = Watcher(tmp_path)
        watcher.poll()

        file.write_text("")
        assert watcher.poll() is None
        file.write_text(pod("a") + "---\n" + pod("b"))
        assert watcher.poll() is None
        assert names(watcher.poll()) == ["a", "b"]

    def test_the_second_look_comes_soon(self, tmp_path: Path) -> None:
        """Only as long as there is something to confirm."""
        watcher = Watcher(tmp_path)
        waiting: list[bool] = []

        def look() -> None:
            watcher.poll()
            waiting.append(watcher.is_waiting)

        look()
        (tmp_path / "a.yaml").write_text(pod("a"))
        look()
        look()
        (tmp_path / "b.yaml").write_text(pod("b"))
        look()
        (tmp_path / "b.yaml").unlink()
        look()
        assert waiting == [False, True, False, True, False]

    def test_a_directory_that_never_rests_is_read_all_the_same(
        self, tmp_path: Path
    ) -> None:
        """A busy neighbour file cannot hold up a policy for good."""
        watcher = Watcher(tmp_path)
        watcher.poll()

        news = []
        for number in range(MAX_UNSETTLED_POLLS + 1):
            (tmp_path / "busy.yaml").write_text(pod("a" * (number + 1)))
            news.append(watcher.poll())
        assert news[:-1] == [None] * MAX_UNSETTLED_POLLS
        assert names(news[-1]) == ["a" * (MAX_UNSETTLED_POLLS + 1)]

    def test_a_removed_file_takes_its_objects_along(self, tmp_path: Path) -> None:
        """Removal is a change like any other."""
        (tmp_path / "a.yaml").write_text(pod("a"))
        watcher = Watcher(tmp_path)
        watcher.poll()
        (tmp_path / "a.yaml").unlink()

        assert names(settled(watcher)) == []

    def test_a_config_map_is_swapped_by_a_link(self, tmp_path: Path) -> None:
        """The files stay the same links; what they lead to changes."""
        for version in ("1", "2"):
            (tmp_path / f"..{version}").mkdir()
            (tmp_path / f"..{version}" / "a.yaml").write_text(pod(f"v{version}"))
        (tmp_path / "..data").symlink_to("..1")
        (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
        watcher = Watcher(tmp_path)
        assert names(watcher.poll()) == ["v1"]

        (tmp_path / "..tmp").symlink_to("..2")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        assert names(settled(watcher)) == ["v2"]

    def test_a_link_that_leads_back_is_not_followed(self, tmp_path: Path) -> None:
        """A loop ends."""
        (tmp_path / "a.yaml").write_text(pod("a"))
        (tmp_path / "loop").symlink_to(tmp_path)

        change = Watcher(tmp_path).poll()
        assert names(change) == ["a"]
        assert change is not None
        assert change.problems == ()


class TestUnreadable:
    def test_a_missing_directory_is_reported_until_it_is_there(
        self, tmp_path: Path
    ) -> None:
        """The agent starts without objects and says why."""
        wanted = tmp_path / "manifests"
        watcher = Watcher(wanted)
        first = watcher.poll()
        assert names(first) == []
        assert first is not None
        assert [item.object for item in first.problems] == [str(wanted)]
        assert watcher.poll() is None

        wanted.mkdir()
        (wanted / "a.yaml").write_text(pod("a"))
        there = settled(watcher)
        assert names(there) == ["a"]
        assert there is not None
        assert there.problems == ()

    def test_a_directory_that_goes_away_takes_nothing_along(
        self, tmp_path: Path
    ) -> None:
        """An unmounted volume is a fault, not an empty cluster; it recovers."""
        here, away = tmp_path / "here", tmp_path / "away"
        here.mkdir()
        (here / "a.yaml").write_text(pod("a"))
        watcher = Watcher(here)
        watcher.poll()

        here.rename(away)
        gone = watcher.poll()
        assert names(gone) == ["a"]
        assert gone is not None
        assert "last good objects stay in force" in gone.problems[0].message

        away.rename(here)
        back = settled(watcher)
        assert names(back) == ["a"]
        assert back is not None
        assert back.problems == ()

    @pytest.mark.parametrize(
        "fault", ["empty", "broken", "broken link", "no directory"]
    )
    def test_a_start_uses_what_was_last_good(self, tmp_path: Path, fault: str) -> None:
        """Kept on disk over restarts, until the source is read completely again."""
        here, kept = tmp_path / "here", LastGood(tmp_path / "kept")
        here.mkdir()
        file = here / "a.yaml"
        file.write_text(pod("a"))
        assert names(Watcher(here, kept).poll()) == ["a"]

        if fault == "empty":
            file.write_text("")
        elif fault == "broken":
            file.write_text("{")
        else:
            file.unlink()
            if fault == "broken link":
                file.symlink_to(tmp_path / "nowhere")
            else:
                here.rmdir()
        watcher = Watcher(here, LastGood(tmp_path / "kept"))
        change = watcher.poll()
        assert names(change) == ["a"]
        assert change is not None
        assert change.problems
        assert not change.complete

        here.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(pod("b"))
        after = settled(watcher)
        assert names(after) == ["b"]
        assert after is not None
        assert after.complete

    def test_a_file_that_was_never_readable_closes_every_pod(
        self, tmp_path: Path
    ) -> None:
        """What it denies is not known; one that comes later and is broken is none."""
        (tmp_path / "a.yaml").write_text(pod("a"))
        (tmp_path / "policy.yaml").write_text("")
        watcher = Watcher(tmp_path)
        first = watcher.poll()
        assert first is not None
        assert not first.complete
        assert first.objects.istio.unreadable == {
            ("manifest file policy.yaml", EVERY_NAMESPACE)
        }
        (tmp_path / "policy.yaml").write_text(pod("b"))
        (tmp_path / "later.yaml").write_text("{")
        then = settled(watcher)
        assert names(then) == ["a", "b"]
        assert then is not None
        assert not then.objects.istio.unreadable
        assert not then.complete

    def test_damage_to_what_was_kept_is_left_out(self, tmp_path: Path) -> None:
        here, place = tmp_path / "here", tmp_path / "kept"
        here.mkdir()
        (here / "a.yaml").write_text(pod("a"))
        (here / "b.yaml").write_text(pod("b"))
        Watcher(here, LastGood(place)).poll()
        one, _ = sorted(place.iterdir())
        one.write_bytes(one.read_bytes()[:-1])
        assert len(LastGood(place).load()) == 1

    @pytest.mark.parametrize("kind", ["fifo", "broken link"])
    def test_what_is_no_file_is_reported_and_never_waited_for(
        self, tmp_path: Path, kind: str
    ) -> None:
        """A FIFO named like a manifest would block a reader for good."""
        (tmp_path / "a.yaml").write_text(pod("a"))
        if kind == "fifo":
            os.mkfifo(tmp_path / "b.yaml")
        else:
            (tmp_path / "b.yaml").symlink_to("nowhere")
        watcher = Watcher(tmp_path)
        change = watcher.poll()

        assert names(change) == ["a"]
        assert change is not None
        assert [item.object for item in change.problems] == ["b.yaml"]
        assert watcher.poll() is None

        (tmp_path / "b.yaml").unlink()
        (tmp_path / "b.yaml").write_text(pod("b"))
        assert names(settled(watcher)) == ["a", "b"]

    def test_a_huge_file_is_refused(self, tmp_path: Path) -> None:
        """Its size is said; its bytes are not kept."""
        with (tmp_path / "a.yaml").open("wb") as file:
            file.truncate(1 << 30)

        change = Watcher(tmp_path).poll()
        assert change is not None
        assert "more than" in change.problems[0].message


@pytest.mark.usefixtures("autojump_clock")
class TestRun:
    async def test_tells_at_the_start_and_at_every_change(self, tmp_path: Path) -> None:
        """Started means that the first Change was delivered."""
        news: list[list[str]] = []
        arrived = trio.Event()

        def take(change: Change) -> None:
            news.append(names(change))
            if len(news) == 2:
                arrived.set()

        (tmp_path / "a.yaml").write_text(pod("a"))
        async with trio.open_nursery() as nursery:
            await nursery.start(run, tmp_path, take)
            assert news == [["a"]]
            (tmp_path / "b.yaml").write_text(pod("b"))
            await arrived.wait()
            nursery.cancel_scope.cancel()

        assert news == [["a"], ["a", "b"]]

    async def test_starts_without_a_directory(self, tmp_path: Path) -> None:
        """What is missing is news, not an error."""
        news: list[Change] = []
        async with trio.open_nursery() as nursery:
            await nursery.start(run, tmp_path / "none", news.append)
            nursery.cancel_scope.cancel()

        assert [len(change.problems) for change in news] == [1]

"""Files change, break and heal; what was good in them stays in force meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kube.manifests import Change, ManifestSet
from agent.policy.istio import EVERY_NAMESPACE


def pod(name: str, account: str = "default") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{namespace: shop, name: {name}}}
spec: {{serviceAccountName: {account}}}
"""


def server(name: str, port: object = 80) -> str:
    return f"""
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {{namespace: shop, name: {name}}}
spec: {{podSelector: {{}}, port: {port}}}
"""


def file(*documents: str) -> bytes:
    return "---".join(documents).encode()


def pods(change: Change) -> dict[str, str]:
    return {item.name: item.service_account for item in change.objects.workloads}


def ports(change: Change) -> dict[str, int | str]:
    return {item.name: item.spec.port for item in change.objects.linkerd.servers}


def said(change: Change) -> str:
    return "\n".join(str(problem) for problem in change.problems)


class TestBrokenFile:
    @pytest.mark.parametrize(
        "broken",
        [b"a: [", b"\x00", b"[" * 100_000, b"#" * 2_000_000, b"a: *b", b"\xff\xff"],
    )
    def test_its_last_good_objects_stay(self, broken: bytes) -> None:
        """And the others' too; the problem names the file."""
        manifests = ManifestSet()
        good = {"a.yaml": file(pod("a"), server("s")), "b.yaml": file(pod("b"))}
        before = manifests.update(good)
        after = manifests.update({**good, "a.yaml": broken})

        assert after.objects == before.objects
        assert before.problems == ()
        (problem,) = after.problems
        assert problem.object.startswith("a.yaml")
        assert "last good objects stay in force" in problem.message

    def test_the_problem_says_the_line(self) -> None:
        """Of the fault in the text."""
        change = ManifestSet().update({"a.yaml": b"a: 1\nb: c: d\n"})

        assert said(change).startswith("a.yaml:2: not valid YAML")
        assert "nothing of it is in force" in said(change)

    def test_it_heals(self) -> None:
        """A good text takes the place of the last good one, without a problem."""
        manifests = ManifestSet()
        manifests.update({"a": file(pod("a"))})
        manifests.update({"a": b"["})

        healed = manifests.update({"a": file(pod("b"))})
        assert pods(healed) == {"b": "default"}
        assert healed.problems == ()

    def test_an_unreadable_file_keeps_its_objects(self) -> None:
        """A permission taken away by mistake takes no pod away."""
        manifests = ManifestSet()
        manifests.update({"a": file(pod("a"))})
        change = manifests.update({}, {"a": "Permission denied"})

        assert pods(change) == {"a": "default"}
        assert said(change) == (
            "a: Permission denied; its last good objects stay in force"
        )

    def test_a_file_that_is_gone_takes_its_objects_along(self) -> None:
        """Even when it was broken at last."""
        manifests = ManifestSet()
        manifests.update({"a": file(pod("a"))})
        manifests.update({"a": b"["})

        assert manifests.update({}) == Change()


class TestBrokenObject:
    def test_its_last_good_state_stays_and_the_others_change(self) -> None:
        """A wrong field in one object holds up only that object."""
        manifests = ManifestSet()
        manifests.update({"a": file(pod("a"), server("s", 80))})
        change = manifests.update({"a": file(pod("a", "new"), server("s", 70000))})

        assert pods(change) == {"a": "new"}
        assert ports(change) == {"s": 80}
        assert "a:7: Server shop/s: spec.port" in said(change)
        assert "a: Server shop/s: its last good state stays in force" in said(change)

    def test_one_that_cannot_be_named_removes_nothing(self) -> None:
        """It may be any of those that are missing now."""
        manifests = ManifestSet()
        manifests.update({"a": file(pod("a"), server("s"))})
        nameless = "\nkind: Server\n"

        assert ports(manifests.update({"a": file(pod("a"), nameless)})) == {"s": 80}
        assert ports(manifests.update({"a": file(pod("a"))})) == {}

    def test_a_removed_document_is_gone_from_a_file_without_fault(self) -> None:
        """A kind that is not ours is no fault."""
        manifests = ManifestSet()
        manifests.update({"a": file(pod("a"), pod("b"))})
        unused = "\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\n"
        change = manifests.update({"a": file(pod("a"), unused)})

        assert pods(change) == {"a": "default"}
        assert said(change) == (
            "a:7: Secret x: kind: kind Secret is not used by podlock"
        )


def test_what_was_kept_and_is_damaged_closes() -> None:
    """With the directory missing: a policy may have been in it."""
    manifests = ManifestSet({"a.yaml": file(pod("a"))}, ["/state/x.manifest"])
    change = manifests.as_kept()
    assert pods(change) == {"a": "default"}
    ((name, where),) = change.objects.istio.unreadable
    assert "/state/x.manifest" in name
    assert where == EVERY_NAMESPACE
    assert not change.complete


class TestAbsentWhileAFileIsBroken:
    """It may be meant to be in the file that cannot be read: moved there, say."""

    def test_an_object_stays_until_every_file_can_be_read(self) -> None:
        manifests = ManifestSet()
        good = {"a.yaml": file(pod("a"), server("s")), "b.yaml": file(pod("b"))}
        before = manifests.update(good)
        moved = manifests.update({"a.yaml": file(pod("a")), "b.yaml": b"a: ["})
        assert moved.objects == before.objects
        assert "Server shop/s: is in no file; it stays until" in said(moved)
        healed = manifests.update({"a.yaml": file(pod("a")), "b.yaml": file(pod("b"))})
        assert ports(healed) == {}

    def test_a_file_that_goes_meanwhile_takes_nothing_along(self) -> None:
        manifests = ManifestSet({"a.yaml": file(pod("a")), "b.yaml": file(pod("b"))})
        change = manifests.update({"b.yaml": b"a: ["})
        assert pods(change) == {"a": "default", "b": "default"}
        assert not change.complete

    def test_what_can_only_permit_goes_at_once(self) -> None:
        permit = """
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: all}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: s}
  requiredAuthenticationRefs: []
"""
        manifests = ManifestSet()
        before = manifests.update({"a.yaml": file(permit), "b.yaml": file(pod("b"))})
        assert before.objects.linkerd.authorization_policies
        after = manifests.update({"b.yaml": b"a: ["})
        assert not after.objects.linkerd.authorization_policies


class TestUnreadableServer:
    LOST = frozenset({("shop", "s")})

    def test_at_the_start_it_is_told(self) -> None:
        """There is no last good state: perhaps it closed a port yesterday."""
        manifests = ManifestSet()
        first = manifests.update({"a": file(server("s", 0))})
        still = manifests.update({"a": file(server("s", -1))})
        torn = manifests.update({"a": b"["})
        fixed = manifests.update({"a": file(server("s", 1))})

        unreadable = [
            change.objects.linkerd.unreadable_servers
            for change in (first, still, torn, fixed)
        ]
        assert unreadable == [self.LOST, self.LOST, self.LOST, frozenset()]

    def test_later_the_last_good_state_is_that_there_is_none(self) -> None:
        """A typing error in a new file closes nothing that runs."""
        manifests = ManifestSet()
        manifests.update({})
        change = manifests.update({"a": file(server("s", 0))})

        assert change.objects.linkerd.unreadable_servers == frozenset()
        assert "spec.port" in said(change)

    def test_another_file_may_have_it_readable(self) -> None:
        """Then nothing is lost."""
        files = {"a": file(server("s", 0)), "b": file(server("s", 80))}
        change = ManifestSet().update(files)

        assert change.objects.linkerd.unreadable_servers == frozenset()
        assert ports(change) == {"s": 80}


class TestUnreadableIstio:
    @pytest.mark.parametrize("kind", ["AuthorizationPolicy", "PeerAuthentication"])
    def test_at_the_start_it_is_told(self, kind: str) -> None:
        """Like a Server, it may have kept somebody out; later it closes nothing."""
        broken = f"""
apiVersion: security.istio.io/v1
kind: {kind}
metadata: {{namespace: shop, name: a}}
spec: {{nonsense: true}}
"""
        manifests = ManifestSet()
        manifests.update({})
        first = ManifestSet().update({"a": file(broken)})
        later = manifests.update({"a": file(broken)})

        told = frozenset({(f"Istio {kind} shop/a", "shop")})
        assert first.objects.istio.unreadable == told
        assert first.objects.linkerd.unreadable_servers == frozenset()
        assert later.objects.istio.unreadable == frozenset()


class TestDuplicates:
    def test_the_first_by_path_wins(self) -> None:
        """Whichever was there before; the other is reported."""
        manifests = ManifestSet()
        manifests.update({"b": file(pod("a", "second"))})
        change = manifests.update(
            {"b": file(pod("a", "second")), "a": file(pod("a", "first"))}
        )

        assert pods(change) == {"a": "first"}
        assert said(change) == (
            "b: Pod shop/a: is defined in a already, which stays in force"
        )

    def test_in_one_file_the_first_wins(self) -> None:
        """By its place in the file."""
        change = ManifestSet().update({"a": file(pod("a", "one"), pod("a", "two"))})

        assert pods(change) == {"a": "one"}
        assert len(change.problems) == 1

    def test_one_name_of_two_kinds_is_two_objects(self) -> None:
        """A Pod and a Server may share a name."""
        change = ManifestSet().update({"a": file(pod("a"), server("a"))})

        assert (pods(change), ports(change)) == ({"a": "default"}, {"a": 80})
        assert change.problems == ()


STATES = st.dictionaries(
    st.sampled_from(["a.yaml", "b.yaml"]),
    st.sampled_from(
        [
            b"",
            b"[",
            file(pod("a")),
            file(pod("a"), server("s")),
            file(pod("a"), server("s", 0)),
            file(server("t"), "\nkind: Pod\n"),
        ]
    )
    | st.binary(max_size=32),
)


class TestAnything:
    @given(st.lists(STATES, max_size=5))
    def test_any_history_ends_in_the_same_good_state(
        self, history: list[dict[str, bytes]]
    ) -> None:
        """No state raises, and good files are the same whatever came before them."""
        manifests = ManifestSet()
        for files in history:
            manifests.update(files)
        good = {"a.yaml": file(pod("a")), "b.yaml": file(server("s"))}

        assert manifests.update(good) == ManifestSet().update(good)

    @given(st.permutations(["a", "b", "c", "d"]))
    def test_order_of_documents_never_matters(self, names: list[str]) -> None:
        """Objects are the same, wherever they stand."""
        shuffled = ManifestSet().update({"f": file(*map(pod, names))})
        straight = ManifestSet().update({"f": file(*map(pod, "abcd"))})

        assert shuffled.objects == straight.objects

"""Whether a selector matches any pod, by the same answer as asking each pod."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.policy.population import Population
from agent.policy.selector import LabelRequirement, LabelSelector

KEYS, VALUES, NAMESPACES = ("app", "tier", "x"), ("a", "b", ""), ("shop", "back")
LABELS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
REQUIREMENT = st.one_of(
    st.builds(
        LabelRequirement,
        key=st.sampled_from(KEYS),
        operator=st.sampled_from(("Exists", "DoesNotExist")),
    ),
    st.builds(
        LabelRequirement,
        key=st.sampled_from(KEYS),
        operator=st.sampled_from(("In", "NotIn")),
        values=st.lists(st.sampled_from(VALUES), min_size=1).map(tuple),
    ),
)
SELECTOR = st.builds(
    LabelSelector,
    match_labels=LABELS,
    match_expressions=st.lists(REQUIREMENT, max_size=3).map(tuple),
)


@given(
    st.lists(st.tuples(st.sampled_from(NAMESPACES), LABELS), max_size=8),
    SELECTOR,
    st.sampled_from([*NAMESPACES, "empty", None]),
)
def test_as_each_pod_would_say(
    pods: list[tuple[str, dict[str, str]]],
    selector: LabelSelector,
    namespace: str | None,
) -> None:
    expected = any(
        namespace in (None, within) and selector.selects(labels)
        for within, labels in pods
    )
    assert Population(pods).has(namespace, selector) is expected

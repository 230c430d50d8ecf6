"""A problem reads as one line that says where to look."""

from __future__ import annotations

from agent.policy.problem import Problem


class TestProblem:
    def test_names_object_field_and_fault(self) -> None:
        """The place comes first, so that a list of problems sorts by object."""
        problem = Problem("a.yaml:3: Server shop/api", "spec.port", "expected a port")

        assert str(problem) == "a.yaml:3: Server shop/api: spec.port: expected a port"

    def test_a_problem_of_the_whole_object_has_no_field(self) -> None:
        """No empty field is printed."""
        assert str(Problem("Pod shop/api", "", "is gone")) == "Pod shop/api: is gone"

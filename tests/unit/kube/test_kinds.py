"""Kubernetes' own kinds may have fields that we do not know; ours have types."""

from __future__ import annotations

import msgspec
import pytest

from agent.kube.kinds import PodKind, ServiceKind


class TestLenient:
    def test_unknown_fields_pass(self) -> None:
        """A real Pod has many more fields than we read."""
        document = {
            "metadata": {"name": "a", "managedFields": []},
            "spec": {"tolerations": [], "containers": [{"image": "x"}]},
        }

        assert msgspec.convert(document, PodKind).metadata.namespace == "default"

    @pytest.mark.parametrize(
        "spec",
        [
            {"ports": [{"port": 0}]},
            {"ports": [{"port": 80, "protocol": "tcp"}]},
            {"type": "Clusterip"},
            {"selector": {"app": 1}},
        ],
    )
    def test_known_fields_have_their_type(self, spec: object) -> None:
        """What we read must be what Kubernetes says it is."""
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"metadata": {"name": "a"}, "spec": spec}, ServiceKind)

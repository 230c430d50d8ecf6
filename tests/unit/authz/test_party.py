"""What `--from` and `--to` may name, and what they may not."""

from __future__ import annotations

import pytest

from agent.addresses import parse_ip
from agent.authz.party import Client, clients, servers
from agent.authz.servers import NoSuchParty
from agent.identity.spiffe import SpiffeId

from .samples import pod, shop, spiffe, survey

WEB = SpiffeId.parse(spiffe("web"))
WEB_ADDRESSES = (parse_ip("10.0.1.1"), parse_ip("fd00::1:1"))


class TestClients:
    @pytest.mark.parametrize(
        "text",
        [
            "web",
            "shop/web",
            spiffe("web"),
            "web.shop.serviceaccount.identity.linkerd.cluster.local",
        ],
    )
    def test_a_pod(self, text: str) -> None:
        """By name, or by the identity that it has."""
        assert clients(text, survey(shop())) == [Client(WEB, WEB_ADDRESSES, "shop/web")]

    def test_a_pods_address(self) -> None:
        """It comes by tunnel, as that pod, from that address."""
        ip = parse_ip("10.0.1.1")
        assert clients("10.0.1.1", survey(shop())) == [Client(WEB, (ip,), "shop/web")]

    def test_plaintext(self) -> None:
        """The pod's addresses without its identity."""
        (found,) = clients("web", survey(shop()), plaintext=True)
        assert found == Client(None, WEB_ADDRESSES, "shop/web")

    def test_outside(self) -> None:
        """A pod outside the mesh has no identity, and an address nobody's neither."""
        (found,) = clients("outsider", survey(shop()))
        assert found.identity is None
        (found,) = clients("192.0.2.1", survey(shop()))
        assert found == Client(None, (parse_ip("192.0.2.1"),))

    def test_an_identity_that_no_pod_has(self) -> None:
        """Its address is not known, unless it is said."""
        (found,) = clients(spiffe("new"), survey(shop()))
        assert found == Client(SpiffeId.parse(spiffe("new")))
        ip = parse_ip("10.0.0.1")
        (found,) = clients(spiffe("new"), survey(shop()), address=ip)
        assert found.addresses == (ip,)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("webb", "do you mean shop/web"),
            ("spiffe://cluster.local", "path"),
            ("spiffe://x//y", "segment"),
            ("web.serviceaccount.identity.linkerd.cluster.local", "SERVICEACCOUNT"),
            ("", "no pod"),
        ],
    )
    def test_nobody(self, text: str, said: str) -> None:
        """An error that helps."""
        with pytest.raises(NoSuchParty, match=said):
            clients(text, survey(shop()))

    def test_two_of_one_name(self) -> None:
        """Which one is asked back, not guessed."""
        cluster = survey(shop(pod("outside/web")))
        with pytest.raises(NoSuchParty, match="outside/web, shop/web"):
            clients("web", cluster)

    def test_plaintext_under_an_identity(self) -> None:
        """There is no such thing."""
        with pytest.raises(NoSuchParty, match="no certificate"):
            clients(spiffe("web"), survey(shop()), plaintext=True)


class TestServers:
    @pytest.mark.parametrize("text", ["api", "shop/api", "10.0.2.1", "fd00::2:1"])
    def test_a_pod(self, text: str) -> None:
        """On the port that is asked for."""
        (found,) = servers(text, 80, survey(shop()))
        assert (found.pod.key, found.port) == ("shop/api", 80)

    def test_a_service_address(self) -> None:
        """The pods behind it, on the port that they listen on."""
        (found,) = servers("10.96.0.1", 8000, survey(shop()))
        assert (found.pod.key, found.port) == ("shop/api", 80)

    def test_a_service_of_pods_without_addresses(self) -> None:
        """As in a repository: by selector."""
        documents = [
            document
            for document in shop(pod("shop/api-v2", app="api"))
            if document["metadata"]["name"] != "api" or document["kind"] == "Service"
        ]
        (found,) = servers("api", 8000, survey(documents))
        assert (found.pod.key, found.port) == ("shop/api-v2", 80)

    @pytest.mark.parametrize(
        ("text", "port", "said"),
        [
            ("10.96.0.1", 80, "has no port 80, only 8000"),
            ("10.1.1.1", 80, "no pod and no Service"),
            ("apj", 80, "do you mean shop/api"),
        ],
    )
    def test_nobody(self, text: str, port: int, said: str) -> None:
        """An error that helps."""
        with pytest.raises(NoSuchParty, match=said):
            servers(text, port, survey(shop()))

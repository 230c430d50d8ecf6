"""Step 7: two pods of one node."""

from __future__ import annotations

from tests.demo.calls import NewConnections, curl, logged_client, url
from tests.demo.report import Notes
from tests.demo.stage import Stage


def neighbours(stage: Stage, notes: Notes) -> None:
    """web may call till, its neighbour; batch, another one, may not."""
    web, batch, till = (stage.pods[name] for name in ("web", "batch", "till"))
    agent = stage.agents["n1"]
    notes.did("curl from web and from batch to nginx in till, all three on node 1")
    watch = NewConnections(agent, workload="shop/till")
    for address in (*till.address, *stage.service("till")):
        path = f"/?{address}"
        answer = curl(web, url(address, path))
        client, _ = logged_client(till, path)
        page = answer.served and answer.body == stage.page("till")
        notes.saw(f"web at {address}: {answer}; nginx saw {client}", page)
        notes.saw("which is web's own address", client in set(web.address))
    seen = watch.wait(
        lambda each: each["direction"] == "inbound" and each["outcome"] != "refused",
        "web's connection to till",
    )
    source = seen["source"]["identity"]
    notes.saw(f"node 1 on the way in: {source}", source == stage.identity_of("web"))
    notes.saw(f"permitted by {seen['rule']}", "till" in str(seen["rule"]))
    answer = curl(batch, url(till.address.v4))
    notes.saw(f"batch: {answer}", answer.exit_code != 0)
    refusal = watch.wait(lambda each: each["outcome"] == "refused", "batch's refusal")
    told = f"{refusal['reason']} ({refusal['rule']})"
    notes.saw(f"node 1: {told}", "shop/till-http" in told)

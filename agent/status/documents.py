"""
The documents that the status socket serves: their shapes; connections are in `records`.

Keys are always present; what is unknown is null. Times are ISO 8601 in UTC, to the
millisecond. A document is versioned by its path (`/v1/...`): keys may be added to it,
none renamed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal, TypedDict

from agent.workload.connection import Path

Name = Literal[
    "status",
    "workloads",
    "certificates",
    "policies",
    "connections",
    "seen",
    "events",
    "objects",
]
NAMES: Final[tuple[Name, ...]] = (
    "status",
    "workloads",
    "certificates",
    "policies",
    "connections",
    "seen",
    "events",
    "objects",
)


class Worker(TypedDict):
    index: int
    pid: int | None
    started: str | None
    restarts: int
    connections: int


class KernelFeature(TypedDict):
    """`reason` says why `level` is not native."""

    name: str
    level: Literal["native", "fallback"]
    reason: str | None


class RedirectFault(TypedDict):
    """One thing in the kernel that is not as it should be."""

    object: str
    message: str


class RedirectInterruption(TypedDict):
    """A time in which something was missing; it was repaired at `until`."""

    since: str
    until: str
    faults: str


class RedirectState(TypedDict):
    """
    `loaded`: links, pins and entries were found in place within the last two seconds;
    `verified_at`: when they last were. `missing_since`: what `faults` name is missing,
    since some time after that. `interruptions`: the latest that were repaired.
    """

    loaded: bool
    verified_at: str | None
    missing_since: str | None
    faults: list[RedirectFault]
    interruptions: list[RedirectInterruption]


class Redirect(RedirectState):
    """`features`: what the redirect needs of this kernel, as tried at the start."""

    pins: str
    cgroup: str | None
    features: list[KernelFeature]


class SameNode(TypedDict):
    """`reason` says why `mode` is not the one that was asked for."""

    mode: Literal["tunnel", "direct"]
    reason: str | None
    pairs: int
    unrecorded: int


class ObjectsFrom(TypedDict):
    """
    Where objects come from: a directory, or an API server's URL.

    `not_installed` are kinds of policy that the server does not know, so that there
    are none of them.
    """

    source: Literal["manifests", "api-server"]
    place: str
    not_installed: list[str]


class IdentitySource(TypedDict):
    """`trust_version` is that of the trust in force on the whole node."""

    mode: Literal["embedded", "service", "spiffe-agent"]
    bundle: list[str]  # the anchors' fingerprints
    trust_version: int | None


class Problem(TypedDict):
    """One thing to repair: in which object, which field, and what was expected."""

    object: str
    field: str | None
    message: str


class Dependency(TypedDict):
    """
    What the agent needs from elsewhere, and whether it answers.

    `why` is the last failure, `since` the time of the first one after `last_contact`,
    and `attempts` how many there were.
    """

    kind: str
    name: str
    state: Literal["reachable", "unreachable", "unknown"]
    last_contact: str | None
    since: str | None
    why: str | None
    attempts: int


class Audited(TypedDict):
    """Connections to a pod's port that `rule` would deny, and only audits."""

    workload: str
    port: int
    rule: str
    connections: int
    last: str


class Status(TypedDict):
    version: str
    node: str
    pid: int
    started: str
    uptime_seconds: float
    trust_domain: str
    ready: bool
    not_ready_because: list[str]
    workers: list[Worker]
    redirect: Redirect
    same_node: SameNode
    objects_from: ObjectsFrom
    identity: IdentitySource
    dependencies: list[Dependency]
    counts: dict[str, int]
    audited: list[Audited]
    problems: list[Problem]
    warnings: list[Problem]  # policies that are valid and change nothing


WorkloadState = Literal["captured", "waiting", "refused", "remote", "outside"]


class Workload(TypedDict):
    """`reason` says why a pod is not captured, where it is not, and what is wrong."""

    uid: str
    namespace: str
    name: str
    node: str | None
    identity: str | None
    addresses: list[str]
    state: WorkloadState
    reason: str | None


class Workloads(TypedDict):
    """`counts` are of all of them by state, whatever a filter keeps."""

    workloads: list[Workload]
    counts: dict[str, int]


class Certificate(TypedDict):
    """`serial` and `fingerprint` are hexadecimal; `error` since `since`, if any."""

    identity: str
    serial: str | None
    not_before: str | None
    not_after: str | None
    renew_at: str | None
    fingerprint: str | None
    state: str
    error: str | None
    since: str | None
    anchor: str | None
    issuer: str | None
    renewed_at: str | None


class Anchor(TypedDict):
    """`state`: `retiring` ones sign no more, under `tainted` ones nothing counts."""

    fingerprint: str
    subject: str
    not_after: str
    state: Literal["trusted", "retiring", "tainted"]


class WorkerTrust(TypedDict):
    """The version that a worker says is in force there; null until it does."""

    worker: int
    version: int | None


class TrustState(TypedDict):
    """
    What peers are judged by: `version` here, and how far it has got.

    `acknowledged` is what the authority has heard of this node; `error` why it has
    not heard the latest. `retiring` and `tainted` are issuers' and anchors'.
    """

    version: int | None
    workers: list[WorkerTrust]
    acknowledged: int | None
    error: str | None
    retiring: list[str]
    tainted: list[str]


class RevocationListState(TypedDict):
    """`outdated`: past its nextUpdate; what it names is refused all the same."""

    issuer: str
    revoked: int
    next_update: str | None
    outdated: bool


class Certificates(TypedDict):
    certificates: list[Certificate]
    bundle: list[Anchor]
    trust: TrustState
    revocation_lists: list[RevocationListState]


class Authorization(TypedDict):
    name: str
    identities: list[str]
    networks: list[str]


class PortPolicy(TypedDict):
    port: int
    server: str
    access_policy: str
    authorizations: list[Authorization]


class IstioRules(TypedDict):
    """
    Istio's objects about a workload, by what they do; of many the first hundred.

    `mutual_tls`: which ports demand it; "" is every port that is not named.
    """

    mutual_tls: dict[str, str]
    denies: list[str]
    allows: list[str]
    dry_run: list[str]


class WorkloadPolicy(TypedDict):
    """`istio` is null where Istio's kinds say nothing."""

    workload: str
    default: str
    default_from: str
    ports: list[PortPolicy]
    istio: IstioRules | None


class Policies(TypedDict):
    policies: list[WorkloadPolicy]


class SeenSource(TypedDict):
    address: str
    workload: str | None


class SeenFlow(TypedDict):
    """
    Connections of one client to one port of a pod, summed up.

    `client` is an identity or, where there was none, an address; `audited` are those
    of `allowed` that only audit let in; `rule` decided about the last one.
    """

    client: str
    identity: bool
    sources: list[SeenSource]
    destination: str
    port: int
    path: Path
    allowed: int
    audited: int
    refused: int
    rule: str | None
    first: str
    last: str


class Seen(TypedDict):
    """
    What was seen from `since` to `until`, the time of the document.

    `dropped` is how many flows, those seen longest ago, made room for new ones.
    """

    node: str
    since: str
    until: str | None
    flows: list[SeenFlow]
    dropped: int


class Setting(TypedDict):
    """
    `federated`: foreign trust domains, of the configuration or the identity service.
    `only_pods`: identities of the own trust domain are pods' only.
    """

    trust_domain: str
    default_inbound: str
    cluster_networks: list[str]
    root_namespace: str
    federated: list[str]
    only_pods: bool


class Unreadable(TypedDict):
    """Namespace and name of Servers; title and namespace of Istio's kinds."""

    linkerd: list[list[str]]
    istio: list[list[str]]


class ObjectList(TypedDict):
    """
    Every object in force, as a manifest that has what we read of it.

    `unreadable`: those that could not be read, and so keep closed what they close.
    """

    node: str
    setting: Setting
    unreadable: Unreadable
    manifests: list[dict[str, Any]]


class Filtered(TypedDict):
    """
    `filtered` of a document that was asked for with filters: how many items of how
    many it has. `unknown`: a sentence for each name that nothing has.
    """

    shown: int
    of: int
    unknown: list[str]


class Event(TypedDict):
    time: str
    kind: str
    object: str
    message: str


class Events(TypedDict):
    """Oldest first; `dropped` is how many older ones made room."""

    events: list[Event]
    dropped: int


def iso(unix_seconds: float) -> str:
    """`2026-01-02T03:04:05.678Z` for Unix seconds."""
    moment = datetime.fromtimestamp(unix_seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_null(unix_seconds: float | None) -> str | None:
    """The same for a time that may be unknown."""
    return None if unix_seconds is None else iso(unix_seconds)

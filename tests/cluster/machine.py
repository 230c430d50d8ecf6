"""
The two-node cluster as a test sees it: its scripts, kubectl, and what is on a node.

`up`, `down` and the other scripts beside this file build it from Debian's packages;
lib.sh says where everything lies.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent.redirect.bpffs import find_cgroup
from tests.lab import system
from tests.lab.system import Finished, LabError

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
# As lib.sh has them.
_PLACES: Final = os.environ  # noqa: TID251
CACHE: Final = Path(_PLACES.get("KUBE_CACHE", "/var/cache/kube-debian"))
RUN: Final = Path(_PLACES.get("KUBE_RUN", "/run/kube-debian"))
KUBECONFIG: Final = RUN / "admin.kubeconfig"
NODES: Final = (1, 2)
POD_NETWORK: Final = ipaddress.ip_network("10.200.0.0/16")
# Node 2's end of the wire, as the machine sees it: all that passes between the nodes.
WIRE: Final = "kube-veth2"
MESH: Final = "podlock"
BPFFS: Final = Path("/sys/fs/bpf")

Document = dict[str, Any]


def node_name(number: int) -> str:
    """As the API server has it."""
    return f"node{number}"


def script(name: str, *arguments: str, seconds: float = 900) -> None:
    """Run one of the scripts here; it talks on our stderr. Raises: LabError."""
    done = subprocess.run([HERE / name, *arguments], check=False, timeout=seconds)
    if done.returncode:
        raise LabError(f"tests/cluster/{name}: exit code {done.returncode}")


def is_up() -> bool:
    """Whether there is a cluster."""
    return KUBECONFIG.exists()


def has_image(name: str, stamp: str) -> bool:
    """Whether the nodes have this very image."""
    told = RUN / "images" / name.replace("/", "_")
    return told.exists() and told.read_text() == stamp


def note_image(name: str, stamp: str) -> None:
    """They have it now."""
    told = RUN / "images" / name.replace("/", "_")
    told.parent.mkdir(exist_ok=True)
    told.write_text(stamp)


def pins() -> list[Path]:
    """What agents of this cluster have pinned, a folder each."""
    folders = (BPFFS / f"podlock-{node_name(node)}" for node in NODES)
    return [path for path in folders if path.exists()]


def kubectl_try(
    *arguments: str, stdin: str | None = None, seconds: float = 60
) -> Finished:
    """kubectl to its end, whatever that is. Raises: LabError when it takes too long."""
    environment = {**os.environ, "KUBECONFIG": str(KUBECONFIG)}  # noqa: TID251
    try:
        return subprocess.run(
            [CACHE / "bin/kubectl", *arguments],
            input=stdin,
            text=True,
            capture_output=True,
            timeout=seconds,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"kubectl {' '.join(arguments)}: not in {seconds:g} s"
        ) from error


def kubectl(*arguments: str, stdin: str | None = None, seconds: float = 60) -> str:
    """What kubectl prints. Raises: LabError."""
    done = kubectl_try(*arguments, stdin=stdin, seconds=seconds)
    if done.returncode:
        raise LabError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def get(*arguments: str) -> Document:
    """`kubectl get ... -o json`."""
    found: Document = json.loads(kubectl("get", *arguments, "-o", "json"))
    return found


def apply(*documents: Mapping[str, Any]) -> None:
    """Make objects so. Raises: LabError."""
    items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    kubectl("apply", "-f", "-", stdin=json.dumps(items))


def run_in(namespace: str, pod: str, *command: str, seconds: float = 30) -> Finished:
    """Run a command in a pod; a failing one is an answer."""
    return kubectl_try("-n", namespace, "exec", pod, "--", *command, seconds=seconds)


def on_node(number: int, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` as one of the node's own processes."""
    return [str(HERE / "on-node"), str(number), *command]


def agent_pod(number: int) -> Document:
    """The agent's pod on a node. Raises: LabError where there is not exactly one."""
    selector = "app.kubernetes.io/name=podlock-agent"
    node = f"spec.nodeName={node_name(number)}"
    found = get("-n", MESH, "pods", "-l", selector, "--field-selector", node)["items"]
    alive = [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]
    if len(alive) != 1:
        raise LabError(f"{node_name(number)}: {len(alive)} agent pods, expected 1")
    pod: Document = alive[0]
    return pod


def ask_agent(number: int, *command: str) -> Document:
    """What `podlock COMMAND --json` says in a node's agent. Raises: LabError."""
    name = agent_pod(number)["metadata"]["name"]
    done = run_in(MESH, name, "podlock", *command, "--json")
    if done.returncode:
        raise LabError(f"podlock {' '.join(command)} on node {number}: {done.stderr}")
    answer: Document = json.loads(done.stdout)
    return answer


def agent_is_ready(number: int) -> bool:
    """Whether a node's agent says that it serves."""
    pod = agent_pod(number)
    conditions = pod["status"].get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def api_answers() -> bool:
    """Whether the API server is there."""
    return kubectl_try("get", "--raw", "/readyz", seconds=5).returncode == 0


def processes_of(pod: Document, node: int, *, sandbox: bool = False) -> list[int]:
    """The process ids of a pod's containers, or of its sandbox."""
    kubepods = find_cgroup(None) / "kube-debian" / node_name(node) / "kubepods"
    found = kubepods.rglob(f"pod{pod['metadata']['uid']}")
    pids = [pid for cgroup in found for pid in system.processes_in(cgroup)]
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids}
    return [pid for pid, name in names.items() if (name == "pause") == sandbox]


def kill_containers(pod: Document, node: int) -> None:
    """SIGKILL to every process of a pod but its sandbox's."""
    for pid in processes_of(pod, node):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def pods_of(namespace: str, selector: str = "") -> list[Document]:
    """The pods of a namespace that are not on their way out."""
    chosen = ("-l", selector) if selector else ()
    found: list[Document] = get("-n", namespace, "pods", *chosen)["items"]
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def is_ready(pod: Document) -> bool:
    """Whether the kubelet says so."""
    conditions = pod["status"].get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def restarts(pod: Document) -> int:
    """How often its containers were started again."""
    states = pod["status"].get("containerStatuses", ())
    return sum(int(state["restartCount"]) for state in states)


def is_marked(pod: Document) -> bool:
    """Whether its agent says that it is in the mesh."""
    annotations = pod["metadata"].get("annotations", {})
    return bool(annotations.get("podlock.io/tunnel") == "hbone")


def wait_ready(namespace: str, seconds: float = 120) -> list[Document]:
    """All pods of a namespace, once all are ready. Raises: LabError, naming others."""
    last: list[Document] = []

    def ready() -> list[Document] | None:
        nonlocal last
        last = pods_of(namespace)
        return last if last and all(map(is_ready, last)) else None

    try:
        return system.wait_until(ready, f"pods of {namespace}", seconds, 0.5)
    except LabError as error:
        late = [pod["metadata"]["name"] for pod in last if not is_ready(pod)]
        raise LabError(
            f"{error}; not ready: {', '.join(late) or 'none there'}"
        ) from error

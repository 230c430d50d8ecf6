"""
Where settings come from: the file, the environment, flags.

Flags win over the environment, the environment over the file, the file over the
defaults. An unknown key is an error, so a typing mistake cannot pass for a setting.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import reprlib
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import yaml

from agent.config.schema import SCHEMA, SECTIONS, build, convert
from agent.config.settings import (
    AGENTS_NAME,
    AGENTS_NAMESPACE,
    AccountName,
    Config,
    ConfigError,
    HttpsUrl,
    NodeName,
    Origin,
)
from agent.errors import InputError
from agent.spelling import nearest

DEFAULT_FILE: Final = Path("/etc/podlock/podlock.yaml")
PREFIX: Final = "PODLOCK_"
# Names the file itself, so it is no key of the file.
FILE_VARIABLE: Final = "PODLOCK_CONFIG"
# A Kubernetes Service called "podlock..." makes the kubelet put PODLOCK_SERVICE_HOST,
# PODLOCK_PORT_443_TCP_ADDR and so on into every pod's environment: not ours.
_SERVICE_LINK: Final = re.compile(
    r"([A-Z0-9_]+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)"
)


def load(
    file: Path | None = None,
    flags: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """
    The configuration of this process.

    Without `file`, PODLOCK_CONFIG names it; without that, /etc/podlock/podlock.yaml
    counts if it exists. `flags` maps key paths (`limits.drain_seconds`) to text.
    Raises: ConfigError.
    """
    if environment is None:
        environment = os.environ  # noqa: TID251 - this module is the one reader
    named = environment.get(FILE_VARIABLE)
    if file is None and named:
        file = Path(named)
    document = _read(file or DEFAULT_FILE, needed=file is not None)
    return resolve(document, environment, flags, file=file or DEFAULT_FILE)


def resolve(
    document: object,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
    *,
    file: Path | None = None,
) -> Config:
    """A configuration from what was read. Raises: ConfigError."""
    given = {
        **{s.key: s for s in _from_file(document, file)},
        **{s.key: s for s in _from_environment(environment or {})},
        **{s.key: s for s in _from_flags(flags or {})},
    }
    values = {key: setting.default for key, setting in SCHEMA.items()}
    origins: dict[str, Origin] = dict.fromkeys(SCHEMA, "default")
    for key, setting in given.items():
        values[key], origins[key] = setting.convert(), setting.origin
    for key, default in _DERIVED.items():
        # None asks for the default where that is worked out.
        if values[key] in {None, dataclasses.MISSING}:
            values[key], origins[key] = default(values), "default"
    if values["kubernetes.in_cluster"] and values["kubernetes.server"] is None:
        values["kubernetes.server"] = _api_server(environment or {})
        origins["kubernetes.server"] = "environment"
    config = cast("Config", build(Config, "", values, origins=origins))
    _cross_check(config)
    return config


def _cross_check(config: Config) -> None:
    identity = config.identity
    for key in ("anchors", "token") if identity.service else ():
        if getattr(identity, key) is None:
            raise ConfigError(
                f"identity.{key}: expected a file, since identity.service is set"
            )
    if identity.token and not identity.service:
        raise ConfigError("identity.token: of no use without identity.service")
    if identity.workload_api and identity.service:
        raise ConfigError("identity.workload_api: of no use with identity.service")
    _cross_check_federation(config)
    _cross_check_kubernetes(config)


def _cross_check_federation(config: Config) -> None:
    domains = config.federation.domains
    elsewhere = config.identity.service or config.identity.workload_api
    if domains and elsewhere:
        raise ConfigError(f"federation.domains: is for {elsewhere} to say")
    if any(each.trust_domain == config.trust_domain for each in domains):
        raise ConfigError(f"federation.domains: {config.trust_domain} is our own")


def _cross_check_kubernetes(config: Config) -> None:
    kubernetes = config.kubernetes
    if kubernetes.in_cluster and kubernetes.kubeconfig:
        raise ConfigError(
            "kubernetes.kubeconfig: expected none, since kubernetes.in_cluster is set"
        )
    if kubernetes.server and not kubernetes.in_cluster:
        raise ConfigError("kubernetes.server: of no use without kubernetes.in_cluster")
    if kubernetes.is_used and config.origins["manifests"] != "default":
        raise ConfigError(
            "manifests: expected none, since the section kubernetes names the API "
            "server as the source of objects"
        )
    if config.authority.config_map and not kubernetes.is_used:
        raise ConfigError("authority.config_map: of no use without kubernetes")
    if config.authority.config_map and config.authority.issuer is None:
        raise ConfigError(
            "authority.issuer: expected a directory, since replicas that share "
            "authority.config_map each need the issuer's files mounted"
        )


def _api_server(environment: Mapping[str, str]) -> HttpsUrl:
    """What the kubelet tells every container. Raises: ConfigError."""
    host = environment.get("KUBERNETES_SERVICE_HOST")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError(
            "kubernetes.in_cluster: KUBERNETES_SERVICE_HOST is not set, so this is no "
            "pod; expected kubernetes.server, or kubernetes.kubeconfig in its place"
        )
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return cast("HttpsUrl", convert(HttpsUrl, url, Path(), exact=True))


@dataclass(frozen=True, slots=True)
class _Given:
    """One setting as somebody wrote it; `place` is what an error shall name."""

    key: str
    raw: object
    origin: Origin
    place: str
    base: Path

    def convert(self) -> object:
        """Raises: ConfigError, naming place, expectation and value."""
        setting = SCHEMA[self.key]
        if self.raw is None or (self.raw == "" and self.origin != "file"):
            if setting.optional:
                return None
            raise ConfigError(f"{self.place}: expected a value, found none")
        try:
            exact = self.origin == "file"
            return convert(setting.kind, self.raw, self.base, exact=exact)
        except (InputError, ValueError) as error:
            found = reprlib.repr(self.raw)
            raise ConfigError(f"{self.place}: {error} (found {found})") from error


def _from_file(document: object, file: Path | None) -> Iterator[_Given]:
    name = str(file or "configuration")
    base = (file.parent if file else Path()).absolute()

    def walk(section: object, prefix: str) -> Iterator[_Given]:
        if not isinstance(section, Mapping):
            raise ConfigError(
                f"{name}: {prefix.rstrip('.') or 'the top level'}: expected keys and "
                f"values, found {reprlib.repr(section)}"
            )
        for part, raw in section.items():
            # A dot inside a key would be a second way to write one setting.
            key = prefix + str(part).replace(".", "\\.")
            if key in SECTIONS:
                yield from walk({} if raw is None else raw, f"{key}.")
            else:
                _known(key, f"{name}: {key}")
                yield _Given(key, raw, "file", f"{name}: {key}", base)

    return walk({} if document is None else document, "")


def _from_environment(environment: Mapping[str, str]) -> Iterator[_Given]:
    for name, text in sorted(environment.items()):
        rest = name.removeprefix(PREFIX)
        if rest == name or name == FILE_VARIABLE or _SERVICE_LINK.fullmatch(rest):
            continue
        key = rest.lower().replace("__", ".")
        _known(key if rest.isupper() else rest, f"environment {name}", _variable)
        yield _Given(key, text, "environment", f"environment {name}", Path.cwd())


def _from_flags(flags: Mapping[str, str]) -> Iterator[_Given]:
    for key, text in flags.items():
        _known(key, f"--set {key}")
        yield _Given(key, text, "flag", f"--set {key}", Path.cwd())


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "__").upper()


def _known(key: str, place: str, spell: Callable[[str], str] = str) -> None:
    """Raises: ConfigError for an unknown key, with the nearest known one."""
    if key in SCHEMA:
        return
    inside = [known for known in SCHEMA if known.startswith(f"{key}.")]
    if inside:
        raise ConfigError(f"{place}: a section; its settings: {', '.join(inside)}")
    near = nearest(key, [*SCHEMA, *sorted(SECTIONS)])
    hint = f"; did you mean {spell(near)}?" if near else ""
    raise ConfigError(f"{place}: unknown key{hint}")


class _Loader(yaml.SafeLoader):
    """YAML where a key that stands twice is an error and not the last one's win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read(file: Path, *, needed: bool) -> object:
    """Raises: ConfigError where the file cannot be read or is not YAML."""
    try:
        return yaml.load(file.read_bytes(), _Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError as error:
        if not needed:
            return None
        raise ConfigError(f"{file}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{file}: not YAML: {error}") from error


def _host_name() -> object:
    """As the kubelet has it: the host's name in lower case. Raises: ConfigError."""
    name = socket.gethostname().lower()
    try:
        return convert(NodeName, name, Path(), exact=True)
    except ConfigError as error:
        raise ConfigError(f"node: {error} (the host's name is {name!r})") from error


def _shipped_programs() -> Path:
    """Inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "_bpf"
    return shipped if shipped.is_dir() else package.parent / "bpf"


def _agent_account(values: Mapping[str, Any]) -> AccountName:
    """
    The agents' ServiceAccount, in the namespace where this pod runs.

    Were it a fixed one, whoever may create that namespace beside an installation of
    another name would be an agent there.
    """
    namespace = AGENTS_NAMESPACE
    if values["kubernetes.in_cluster"]:
        file = values["kubernetes.credentials"] / "namespace"
        with contextlib.suppress(OSError, UnicodeDecodeError):  # not in a pod
            namespace = file.read_text().strip() or namespace
    return AccountName(f"{namespace}/{AGENTS_NAME}")


_DERIVED: Final[dict[str, Callable[[Mapping[str, Any]], object]]] = {
    "node": lambda _: _host_name(),
    "kubernetes.agent": lambda values: _agent_account(values),
    "redirect.source": lambda _: _shipped_programs(),
    "authority.directory": lambda values: values["state_dir"] / "authority",
    "status.socket": lambda values: values["run_dir"] / "agent.sock",
}

"""The shape of a pod: which of its fields are lists, mappings and texts.

The API server judges what a spec says in Kubernetes objects. But our code that reads them (the merge with the template,
the policy, the return value's sidecar) relies on their shape: a list where the API has a list, a mapping where it has a
mapping, a name where members are told apart by name. That is checked once, here. Fields that are not listed pass: a
newer API may have them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any, Final


class Word(Enum):
    """What has no fields of its own."""

    TEXT = "a text"
    FLAG = "true or false"
    TEXTS_BY_NAME = "a mapping of texts to texts"


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping with these fields among others. ``needs``: the one that tells it from the others of its list."""

    known: Mapping[str, "Shape"] = field(default_factory=dict)
    needs: str = ""


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list whose members all have this shape."""

    member: "Shape"


Shape = Word | Fields | ListOf

_TEXT: Final = Word.TEXT
_FLAG: Final = Word.FLAG
_LABELS: Final = Word.TEXTS_BY_NAME
_TEXTS: Final = ListOf(_TEXT)
_OBJECT: Final = Fields()
_OBJECTS: Final = ListOf(_OBJECT)
_NAMED: Final = ListOf(Fields({"name": _TEXT}))

_SECURITY: Final = Fields(
    {
        "capabilities": Fields({"add": _TEXTS, "drop": _TEXTS}),
        "seccompProfile": _OBJECT,
        "seLinuxOptions": _OBJECT,
        "appArmorProfile": _OBJECT,
        "windowsOptions": _OBJECT,
        "privileged": _FLAG,
        "runAsNonRoot": _FLAG,
        "procMount": _TEXT,
        "sysctls": _OBJECTS,
    }
)
_HANDLER: Final = Fields(
    {"httpGet": Fields({"host": _TEXT}), "tcpSocket": Fields({"host": _TEXT}), "exec": Fields({"command": _TEXTS})}
)
_ENV: Final = ListOf(Fields({"name": _TEXT, "value": _TEXT, "valueFrom": _OBJECT}, needs="name"))
_PORTS: Final = ListOf(Fields({"name": _TEXT, "protocol": _TEXT, "hostIP": _TEXT}))
_RESOURCES: Final = Fields({"limits": _OBJECT, "requests": _OBJECT, "claims": _OBJECTS})
_MOUNTS: Final = ListOf(Fields({"name": _TEXT, "mountPath": _TEXT}, needs="mountPath"))
_VOLUMES: Final = ListOf(Fields({"name": _TEXT}, needs="name"))
_AFFINITY: Final = Fields({"nodeAffinity": _OBJECT, "podAffinity": _OBJECT, "podAntiAffinity": _OBJECT})
_ALIASES: Final = ListOf(Fields({"ip": _TEXT, "hostnames": _TEXTS}))
_DNS: Final = Fields({"nameservers": _TEXTS, "searches": _TEXTS, "options": _OBJECTS})
_CONTAINERS: Final = ListOf(
    Fields(
        {
            "name": _TEXT,
            "image": _TEXT,
            "command": _TEXTS,
            "args": _TEXTS,
            "workingDir": _TEXT,
            "env": _ENV,
            "envFrom": _OBJECTS,
            "ports": _PORTS,
            "resources": _RESOURCES,
            "volumeMounts": _MOUNTS,
            "volumeDevices": _OBJECTS,
            "securityContext": _SECURITY,
            "lifecycle": Fields({"postStart": _HANDLER, "preStop": _HANDLER}),
            "livenessProbe": _HANDLER,
            "readinessProbe": _HANDLER,
            "startupProbe": _HANDLER,
            "restartPolicy": _TEXT,
            "restartPolicyRules": ListOf(Fields({"action": _TEXT})),
        },
        needs="name",
    )
)
_POD: Final = Fields(
    {
        "containers": _CONTAINERS,
        "initContainers": _CONTAINERS,
        "ephemeralContainers": _CONTAINERS,
        "volumes": _VOLUMES,
        "imagePullSecrets": _NAMED,
        "schedulingGates": _NAMED,
        "tolerations": _OBJECTS,
        "hostAliases": _ALIASES,
        "topologySpreadConstraints": _OBJECTS,
        "readinessGates": _OBJECTS,
        "nodeSelector": _LABELS,
        "affinity": _AFFINITY,
        "securityContext": _SECURITY,
        "dnsConfig": _DNS,
        "restartPolicy": _TEXT,
        "serviceAccountName": _TEXT,
        "hostNetwork": _FLAG,
        "hostPID": _FLAG,
        "hostIPC": _FLAG,
    }
)
_TEMPLATE: Final = Fields(
    {
        "apiVersion": _TEXT,
        "kind": _TEXT,
        "metadata": Fields({"name": _TEXT, "namespace": _TEXT, "labels": _LABELS, "annotations": _LABELS}),
        "spec": _POD,
    }
)

#: The fields of a spec that hold Kubernetes objects.
SPEC: Final[Mapping[str, Shape]] = {
    "env_from": _OBJECTS,
    "ports": _PORTS,
    "resources": _RESOURCES,
    "volume_mounts": _MOUNTS,
    "container_security_context": _SECURITY,
    "tolerations": _OBJECTS,
    "affinity": _AFFINITY,
    "volumes": _VOLUMES,
    "init_containers": _CONTAINERS,
    "containers": _CONTAINERS,
    "security_context": _SECURITY,
    "host_aliases": _ALIASES,
    "dns_config": _DNS,
    "pod_template": _TEMPLATE,
}

#: How many problems are listed.
_MOST: Final = 10


def shape_problems(fields: Mapping[str, Any]) -> list[str]:
    """List where these fields of a spec have another shape than in the API: path, what belongs there, what is there.

    Only the first few. An empty list: our code can read all of it.
    """
    return list(islice(_problems_of_spec(fields), _MOST))


def _problems_of_spec(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, shape in SPEC.items():
        yield from _problems(name, fields.get(name), shape)


def _problems(path: str, value: Any, shape: Shape) -> Iterator[str]:
    if value is None:  # to the API the same as left out
        return
    if not _fits(value, shape):
        yield _problem(path, value, shape)
        return
    match shape:
        case Fields(known):
            for name, inner in known.items():
                yield from _problems(f"{path}.{name}", value.get(name), inner)
        case ListOf(member):
            for i, item in enumerate(value):
                here = f"{path}[{i}]"
                yield from [_problem(here, item, member)] if item is None else _problems(here, item, member)
        case Word.TEXTS_BY_NAME:
            for name, text in value.items():
                yield from _problems(f"{path}.{str(name)[:80]}", text, Word.TEXT)
        case Word.TEXT | Word.FLAG:
            pass


def _fits(value: Any, shape: Shape) -> bool:
    """Whether the value itself has this shape, whatever is in it."""
    match shape:
        case Fields(_, needs):
            return isinstance(value, Mapping) and not (needs and not value.get(needs))
        case ListOf():
            return isinstance(value, list | tuple)
        case Word.TEXTS_BY_NAME:
            return isinstance(value, Mapping)
        case Word.TEXT:
            return isinstance(value, str)
        case Word.FLAG:
            return isinstance(value, bool)


def _problem(path: str, value: Any, shape: Shape) -> str:
    return f"{path}: must be {_meant(shape)}, not {_found(value)}"


def _meant(shape: Shape) -> str:
    match shape:
        case Word():
            return shape.value
        case Fields(_, needs):
            return f"a mapping with a {needs}" if needs else "a mapping"
        case ListOf(member):
            return f"a list, each of its members {_meant(member)}"


def _found(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return f"the text {value[:40]!r}"
        case int() | float():
            return "a number"
        case Mapping():
            return f"a mapping of {', '.join(str(name)[:20] for name in islice(value, 3)) or 'nothing'}"
        case _:
            return "a list"

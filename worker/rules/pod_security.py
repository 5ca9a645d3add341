"""Kubernetes' Pod Security Standards as a table: which values of which fields each level allows.

One entry for each control, with the name of upstream's check (k8s.io/pod-security-admission, Kubernetes 1.36), so that
what a worker refuses is what a namespace with ``pod-security.kubernetes.io/enforce`` would refuse, no more and no less.
https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, Final


class Level(IntEnum):
    """How much is refused; each level refuses what those below it refuse too."""

    PRIVILEGED = 0
    BASELINE = 1
    RESTRICTED = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """What some fields may hold.

    Attributes:
        paths: ``x[*]`` is each member of a list, ``x['y*']`` each field whose name begins with y, a last ``*`` the name
            of each field that is set.
        allowed: None is a field that is not set, ``x/*`` each text that begins with ``x/``. A field that holds a list
            must have one of them among its members.
        refused: where this is given, all but these are allowed.
        is_required: the field must be set, also where what should hold it is not there.
        pod_default: the pod's field that counts where a container does not set its own.
    """

    paths: tuple[str, ...]
    allowed: tuple[object, ...] = ()
    refused: tuple[object, ...] = ()
    is_required: bool = False
    pod_default: str = ""


@dataclass(frozen=True, slots=True)
class SecurityControl:
    """A control of the standards. ``exempt_pods``: a field and its value that make the control not apply to a pod."""

    name: str
    level: Level
    rules: tuple[Rule, ...]
    exempt_pods: tuple[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A field that holds what a control does not allow. ``value``: None where it would have to be set."""

    control: SecurityControl
    rule: Rule
    path: str
    value: object


_CONTAINER_LISTS: Final = ("spec.initContainers[*]", "spec.containers[*]", "spec.ephemeralContainers[*]")


def _containers(*fields: str) -> tuple[str, ...]:
    return tuple(f"{each}.{field}" for field in fields for each in _CONTAINER_LISTS)


def _anywhere(*fields: str) -> tuple[str, ...]:
    """Return the security contexts' fields, the pod's and those of all containers."""
    return tuple(
        path for field in fields for path in (f"spec.securityContext.{field}", *_containers(f"securityContext.{field}"))
    )


_HANDLERS: Final = ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop")
_USER_NAMESPACE: Final = ("spec.hostUsers", False)
_WINDOWS: Final = ("spec.os.name", "windows")
_PROFILES: Final = ("RuntimeDefault", "Localhost")
_BASELINE_CAPABILITIES: Final = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
_SYSCTLS: Final = (
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout"),
    *("net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time"),
    *("net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem"),
)
_VOLUMES: Final = (
    *("name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim"),
    *("projected", "secret"),
)
_PROC_MOUNT: Final = Rule(_containers("securityContext.procMount"), (None, "Default"))

CONTROLS: Final = (
    SecurityControl(
        "appArmorProfile",
        Level.BASELINE,
        (
            Rule(_anywhere("appArmorProfile.type"), _PROFILES),
            Rule(
                ("metadata.annotations['container.apparmor.security.beta.kubernetes.io/*']",),
                (None, "", "runtime/default", "localhost/*"),
            ),
        ),
    ),
    SecurityControl(
        "capabilities_baseline",
        Level.BASELINE,
        (Rule(_containers("securityContext.capabilities.add[*]"), _BASELINE_CAPABILITIES),),
    ),
    SecurityControl(
        "hostNamespaces",
        Level.BASELINE,
        (Rule(("spec.hostNetwork", "spec.hostPID", "spec.hostIPC"), (None, False)),),
    ),
    SecurityControl("hostPathVolumes", Level.BASELINE, (Rule(("spec.volumes[*].hostPath.path",)),)),
    SecurityControl("hostPorts", Level.BASELINE, (Rule(_containers("ports[*].hostPort"), (None, 0)),)),
    SecurityControl(
        "hostProbesAndHostLifecycle",
        Level.BASELINE,
        (
            Rule(
                _containers(*(f"{handler}.{by}.host" for handler in _HANDLERS for by in ("httpGet", "tcpSocket"))),
                (None, ""),
            ),
        ),
    ),
    SecurityControl("privileged", Level.BASELINE, (Rule(_containers("securityContext.privileged"), (None, False)),)),
    SecurityControl("procMount", Level.BASELINE, (_PROC_MOUNT,), exempt_pods=_USER_NAMESPACE),
    SecurityControl(
        "seLinuxOptions",
        Level.BASELINE,
        (
            Rule(
                _anywhere("seLinuxOptions.type"),
                (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"),
            ),
            Rule(_anywhere("seLinuxOptions.user", "seLinuxOptions.role"), (None, "")),
        ),
    ),
    SecurityControl("seccompProfile_baseline", Level.BASELINE, (Rule(_anywhere("seccompProfile.type"), _PROFILES),)),
    SecurityControl("sysctls", Level.BASELINE, (Rule(("spec.securityContext.sysctls[*].name",), _SYSCTLS),)),
    SecurityControl(
        "windowsHostProcess", Level.BASELINE, (Rule(_anywhere("windowsOptions.hostProcess"), (None, False)),)
    ),
    SecurityControl(
        "allowPrivilegeEscalation",
        Level.RESTRICTED,
        (Rule(_containers("securityContext.allowPrivilegeEscalation"), (False,), is_required=True),),
        exempt_pods=_WINDOWS,
    ),
    SecurityControl(
        "capabilities_restricted",
        Level.RESTRICTED,
        (
            Rule(_containers("securityContext.capabilities.drop"), ("ALL",), is_required=True),
            Rule(_containers("securityContext.capabilities.add[*]"), ("NET_BIND_SERVICE",)),
        ),
        exempt_pods=_WINDOWS,
    ),
    SecurityControl("procMount_restricted", Level.RESTRICTED, (_PROC_MOUNT,)),
    SecurityControl("restrictedVolumes", Level.RESTRICTED, (Rule(("spec.volumes[*].*",), _VOLUMES),)),
    SecurityControl(
        "runAsNonRoot",
        Level.RESTRICTED,
        (
            Rule(("spec.securityContext.runAsNonRoot",), (None, True)),
            Rule(
                _containers("securityContext.runAsNonRoot"),
                (True,),
                is_required=True,
                pod_default="spec.securityContext.runAsNonRoot",
            ),
        ),
        exempt_pods=_USER_NAMESPACE,
    ),
    SecurityControl(
        "runAsUser",
        Level.RESTRICTED,
        (Rule(_anywhere("runAsUser"), refused=(0,)),),
        exempt_pods=_USER_NAMESPACE,
    ),
    SecurityControl(
        "seccompProfile_restricted",
        Level.RESTRICTED,
        (
            Rule(("spec.securityContext.seccompProfile.type",), _PROFILES),
            Rule(
                _containers("securityContext.seccompProfile.type"),
                _PROFILES,
                is_required=True,
                pod_default="spec.securityContext.seccompProfile.type",
            ),
        ),
        exempt_pods=_WINDOWS,
    ),
)


def findings(pod: Mapping[str, Any], level: Level) -> Iterator[Finding]:
    """Say what in a pod's manifest the level does not allow; first what all levels refuse."""
    for control in CONTROLS:
        if control.level <= level and not _is_exempt(pod, control):
            for rule in control.rules:
                for path in rule.paths:
                    for place, value in _values(pod, path, is_required=rule.is_required):
                        if not _is_allowed(pod, rule, value):
                            yield Finding(control, rule, place, value)


def _is_exempt(pod: Mapping[str, Any], control: SecurityControl) -> bool:
    if control.exempt_pods is None:
        return False
    path, wanted = control.exempt_pods
    return any(_is_same(value, wanted) for _, value in _values(pod, path))


def _is_allowed(pod: Mapping[str, Any], rule: Rule, value: object) -> bool:
    if isinstance(value, _Unreadable):
        return False
    if rule.refused:
        return not any(_is_same(value, refused) for refused in rule.refused)
    if value is None and rule.pod_default:
        return any(_is_one_of(of_pod, rule.allowed) for _, of_pod in _values(pod, rule.pod_default))
    return _is_one_of(value, rule.allowed)


def _is_one_of(value: object, allowed: tuple[object, ...]) -> bool:
    members = value if isinstance(value, list | tuple) else [value]
    return any(_is_same(member, one) for member in members for one in allowed)


def _is_same(value: object, one: object) -> bool:
    if isinstance(one, str) and one.endswith("/*"):
        return isinstance(value, str) and value.startswith(one.removesuffix("*"))
    return value == one and isinstance(value, bool) is isinstance(one, bool)


# Where a path leads

_STEP: Final = re.compile(r"[^.\[]+(?:\[[^\]]*\])?")


def _values(document: Any, path: str, *, is_required: bool = False) -> Iterator[tuple[str, Any]]:
    """Return each place that the path leads to, and what is there; None for what is not set.

    What is of another kind than the path goes through comes as it is, and no rule allows it.
    """
    return _from(document, _steps(path), "", is_required)


@cache
def _steps(path: str) -> tuple[str, ...]:
    return tuple(_STEP.findall(path))


def _from(found: Any, steps: tuple[str, ...], place: str, is_required: bool) -> Iterator[tuple[str, Any]]:
    if not steps:
        yield place, found
    elif found is None:
        if is_required:
            yield ".".join([place, *steps]), None
    elif not isinstance(found, Mapping):
        yield place, _Unreadable(found)
    elif steps == ("*",):
        yield from ((f"{place}.{name}", name) for name, value in found.items() if value is not None)
    else:
        yield from _into(found, steps[0], steps[1:], place, is_required)


def _into(
    found: Mapping[str, Any], step: str, steps: tuple[str, ...], place: str, is_required: bool
) -> Iterator[tuple[str, Any]]:
    name, _, which = step.partition("[")
    here = f"{place}.{name}" if place else name
    value = found.get(name)
    if not which:
        yield from _from(value, steps, here, is_required)
    elif value is None:
        return
    elif which == "*]" and isinstance(value, list | tuple):
        for i, member in enumerate(value):
            yield from _from(member, steps, f"{here}[{i}]", is_required)
    elif which != "*]" and isinstance(value, Mapping):
        prefix = which.removeprefix("'").removesuffix("*']")
        yield from ((f"{here}[{key!r}]", text) for key, text in value.items() if key.startswith(prefix))
    else:
        yield here, _Unreadable(value)


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """What stands where the API has something of another kind."""

    found: object

    def __str__(self) -> str:
        return str(self.found)

"""What a worker refuses to create, judged on the final manifest.

Whoever can write to Redis can run code in the cluster, so the cluster's side decides. This is the seam between manifest
and create: one pure function, from a pod and a :class:`Policy` to a list of violations. A policy has three parts: the
worker's namespaces, a level of Kubernetes' Pod Security Standards (:mod:`worker.rules.pod_security`) that settings can
open, and the worker's own credentials, which none can.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dispatcher.errors import SettingsError
from dispatcher.spec import KubernetesObject, nearest
from worker.rules.own_credentials import OwnCredentials, taken
from worker.rules.pod_security import CONTROLS, Finding, Level, findings
from worker.settings import WorkerSettings

#: How many violations are told; the rest is counted.
_MOST: Final = 10


@dataclass(frozen=True, slots=True)
class Policy:
    """What one worker allows.

    Attributes:
        exempt: names of controls that do not count, and ``CONTROL:VALUE`` for one value that such a control may pass.
        own: None where the worker is no service account of its cluster.
    """

    namespaces: frozenset[str]
    level: Level = Level.BASELINE
    exempt: frozenset[str] = frozenset()
    own: OwnCredentials | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that a pod may not have. ``exemption``: what a setting would have to hold to allow it; '': none can."""

    text: str
    exemption: str = ""


def policy_of(settings: WorkerSettings, namespaces: frozenset[str], own: OwnCredentials | None = None) -> Policy:
    """Make the policy that the settings ask for.

    Raises:
        SettingsError: an exemption names no control.
    """
    known = [control.name for control in CONTROLS]
    for exemption in settings.pod_security_exempt:
        name = exemption.partition(":")[0]
        if name not in known:
            text = f"PODRELAY_POD_SECURITY_EXEMPT: no such control: {name!r}{_by_field(name) or nearest(name, known)}"
            raise SettingsError(f"{text}; known are {', '.join(known)}")
    level = Level[settings.pod_security.upper()]
    return Policy(namespaces, level, frozenset(settings.pod_security_exempt), own)


def _by_field(name: str) -> str:
    """Hint at the exemption for a field, where somebody wrote its name in place of its control's."""
    for control in CONTROLS:
        for rule in control.rules:
            if any(name in re.findall(r"\w+", path) for path in rule.paths):
                is_flag = any(one is False for one in rule.allowed) and name != control.name
                return f" (did you mean '{control.name}{f':{name}' if is_flag else ''}'?)"
    return ""


def violations(manifest: KubernetesObject, policy: Policy) -> list[Violation]:
    """List what this pod may not have. Empty: it may be created."""
    exempt = policy.exempt
    return [
        *(Violation(text) for text in _elsewhere(manifest["metadata"].get("namespace", ""), policy.namespaces)),
        *(Violation(text) for text in (taken(manifest, policy.own) if policy.own else ())),
        *(
            Violation(_text(finding), _exemption(finding))
            for finding in findings(manifest, policy.level)
            if exempt.isdisjoint({finding.control.name, _exemption(finding)})
        ),
    ]


def refusal(found: list[Violation], policy: Policy) -> str:
    """Say what was found, and how it can be had nevertheless, in one message."""
    told = "; ".join(violation.text for violation in found[:_MOST])
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    text = f"the worker's policy does not allow this pod: {told}{more}"
    handles = list(dict.fromkeys(violation.exemption for violation in found if violation.exemption))
    if len(handles) > _MOST:
        handles = list(dict.fromkeys(handle.partition(":")[0] for handle in handles))
    if not handles:
        return text
    level = policy.level.name.lower()
    advice = (
        f"Its level of Kubernetes' Pod Security Standards is {level}: change the pod, or have those who run the worker"
    )
    return f"{text}. {advice} allow it: PODRELAY_POD_SECURITY_EXEMPT={','.join(handles)}"


def _elsewhere(namespace: str, namespaces: frozenset[str]) -> Iterator[str]:
    if namespace not in namespaces:
        served = ", ".join(sorted(namespaces)) or "none"
        yield f"metadata.namespace: {namespace!r} is not served by this worker (served: {served}); use one of these"


def _text(finding: Finding) -> str:
    rule = finding.rule
    if rule.refused:
        may = f"does not allow {_words(rule.refused)}"
    else:
        may = f"allows {_words(rule.allowed)}" if rule.allowed else "allows none"
    found = "is there" if finding.value == _field(finding) else f"is {_shown(finding.value)}"
    return f"{finding.path} {found} ({finding.control.name} {may})"


def _exemption(finding: Finding) -> str:
    """Return the narrowest exemption that lets it pass."""
    name, value = finding.control.name, finding.value
    narrow = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else _field(finding)
    return name if narrow == name or not re.fullmatch(r"[^\s,]{1,100}", narrow) else f"{name}:{narrow}"


def _field(finding: Finding) -> str:
    return finding.path.rpartition(".")[2]


def _words(values: tuple[object, ...]) -> str:
    return ", ".join(_shown(value) for value in values)


def _shown(value: object) -> str:
    match value:
        case None:
            return "not set"
        case bool():
            return str(value).lower()
        case "":
            return "empty"
        case str() if re.fullmatch(r"[\w./*-]{1,60}", value):
            return value
        case _:
            return f"{value!r:.60}"

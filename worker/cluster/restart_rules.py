"""What in a pod's spec would restart its containers: a job is one run of its pod.

Since Kubernetes 1.35 containers of a pod that never restarts may have a restart policy and restart rules of their own,
and one rule of any of them may start *all* containers again. Judged on what we ask for, and on the pod that the API
server made of it: an admission webhook may have added some.
"""

from collections.abc import Iterator
from typing import Any, Final

#: For each list of containers, the restart policies that run nothing of the job's twice. ``Always`` makes an init
#: container a sidecar.
_POLICIES: Final = {
    "initContainers": ("Never", "Always"),
    "containers": ("Never",),
    "ephemeralContainers": ("Never",),
}


def restart_rules(pod_spec: dict[str, Any]) -> Iterator[str]:
    """Find what would restart a container of this pod: path and value, whatever shape the spec has."""
    if pod_spec.get("restartPolicy") not in (None, "", "Never"):
        yield f"restartPolicy: {pod_spec['restartPolicy']!r:.40}"
    for field, policies in _POLICIES.items():
        members = pod_spec.get(field)
        for container in members if isinstance(members, list) else ():
            if isinstance(container, dict):
                yield from _of_container(f"{field}.{container.get('name')!s:.63}", container, policies)


def _of_container(path: str, container: dict[str, Any], policies: tuple[str, ...]) -> Iterator[str]:
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules")
    if policy not in (None, "", *policies):
        yield f"{path}.restartPolicy: {policy!r:.40}"
    if rules:
        yield f"{path}.restartPolicyRules: {_actions(rules)}"


def _actions(rules: Any) -> str:
    members = rules if isinstance(rules, list) else ()
    found = [f"{rule.get('action')!s:.40}" for rule in members[:5] if isinstance(rule, dict)]
    return ", ".join(found) or "given"

"""The recordings, and what of a pod is compared with them.

Left out is what differs from run to run or from cluster to cluster: times, names of nodes and namespaces, uids,
addresses, image ids, versions, and `status.resources`, which that kubelet filled with an artefact.
"""

import base64
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]
RECORDINGS = Path(__file__).parent.parent / "recordings"


class ContainerSeen(NamedTuple):
    name: str
    state: str
    reason: str
    exit_code: int | None
    message: str
    restarts: int
    ready: bool


class Seen(NamedTuple):
    """One look at a pod."""

    phase: str
    reason: str
    message: str
    has_deletion: bool
    grace_s: int | None
    is_bound: bool
    conditions: tuple[str, ...]
    containers: tuple[ContainerSeen, ...]


def read_recording(name: str) -> list[Json]:
    return [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]


def plain(text: str, namespace: str) -> str:
    """A message without what differs from run to run."""
    text = text.replace(namespace, "NAMESPACE")
    text = re.sub(r"(Successfully assigned \S+ to) \S+", r"\1 NODE", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID", text)
    return re.sub(r"lookup (\S+) on [0-9.:]+", r"lookup \1 on DNS", text)


def see(pod: Json, namespace: str) -> Seen:
    metadata, status = pod["metadata"], pod.get("status", {})
    statuses = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return Seen(
        phase=status.get("phase", ""),
        reason=status.get("reason", ""),
        message=plain(status.get("message", ""), namespace),
        has_deletion="deletionTimestamp" in metadata,
        grace_s=metadata.get("deletionGracePeriodSeconds"),
        is_bound="nodeName" in pod["spec"],
        conditions=tuple(_condition(one, namespace) for one in status.get("conditions", [])),
        containers=tuple(_container(one, namespace) for one in statuses),
    )


def _condition(one: Json, namespace: str) -> str:
    text = f"{one['type']}={one['status']}"
    if one.get("reason"):
        text += f"({one['reason']}: {plain(one.get('message', ''), namespace)})"
    return text


def _container(one: Json, namespace: str) -> ContainerSeen:
    (kind, state), *_ = one["state"].items()
    message = plain(state.get("message", ""), namespace)
    code = state.get("exitCode")
    return ContainerSeen(one["name"], kind, state.get("reason", ""), code, message, one["restartCount"], one["ready"])


def without_repeats(looks: list[Seen]) -> list[Seen]:
    return [look for at, look in enumerate(looks) if at == 0 or look != looks[at - 1]]


def recorded_looks(name: str, pod: str = "job") -> list[Seen]:
    """What the watch of a recording showed of one pod."""
    rows = [row for row in read_recording(name) if row["kind"] == "watch" and row["object"]["metadata"]["name"] == pod]
    return without_repeats([see(row["object"], row["object"]["metadata"]["namespace"]) for row in rows])


def ends_with_deleted(name: str) -> bool:
    watched = [row for row in read_recording(name) if row["kind"] == "watch"]
    return bool(watched) and watched[-1]["type"] == "DELETED"


def recorded_requests(name: str) -> list[Json]:
    return [row for row in read_recording(name) if row["kind"] == "request"]


def recorded_logs(name: str) -> list[Json]:
    """What the log endpoint answered, with `data` for the bytes."""
    rows = [row for row in read_recording(name) if row["kind"] == "log"]
    return [{**row, "data": base64.b64decode(row["base64"])} for row in rows]


def recorded_events(name: str) -> list[tuple[str, str, str]]:
    """Type, reason and message of the events, without those that tell of that cluster's DNS."""
    rows = [row for row in read_recording(name) if row["kind"] == "event" and row["reason"] != "MissingClusterDNS"]
    return [(row["type"], row["reason"], plain(row["message"], f"rec-{name}")) for row in rows]


def recorded_pod(name: str) -> Json:
    """The pod that was sent."""
    rows = read_recording(name)
    sent: Json = next(row["sent"] for row in rows if row["kind"] == "request" and row["path"].endswith("/pods"))
    return sent

"""What a starting pod waits for, in words for the user, and when that is worth telling again.

Schedulers and kubelets repeat themselves with other numbers for as long as a pod waits, which may be days: each kind of
trouble is told once.
"""

import re
from typing import Final

from worker.cluster.observation import Container, Observation, Scheduling
from worker.rules.failures import quoted, start_problem, waiting_words

#: How many kinds of trouble of one pod are told; a message with random letters in it would be new for ever.
MAX_KINDS: Final = 16

_WAITS_FOR_A_NODE: Final = "unscheduled"
#: What a kubelet says of a failed pull that does not repeat why (before Kubernetes 1.31).
_BARE_BACK_OFF: Final = re.compile(r'ImagePullBackOff: Back-off pulling image "[^"]*"$')


def waiting_detail(pod: Observation, waits: Container) -> str:
    """Say what the pod waits for. ``waits``: the container whose turn it is."""
    if not pod.scheduling.is_scheduled:
        said = scheduling_detail(pod.scheduling)
        return f"{_WAITS_FOR_A_NODE}: {said}" if pod.scheduling.reason else "waiting to be scheduled"
    if waits.state == "waiting" and start_problem(waits) is not None:
        return f"container {waits.name}: {waiting_words(waits)}"
    if not pod.is_sandbox_ready and not any(c.has_started for c in pod.containers):
        return "preparing volumes and network"
    match waits.kind:
        case "init":
            inits = [c.name for c in pod.containers if c.kind == "init"]
            return f"init container {inits.index(waits.name) + 1} of {len(inits)} ({waits.name})"
        case "sidecar":
            return f"sidecar {waits.name}"
        case "main":
            # Kubernetes' word; whether an image is pulled for that, the pod does not say.
            return "creating containers"


def scheduling_detail(scheduling: Scheduling) -> str:
    """Return why the pod has no node, in the scheduler's words."""
    return quoted(scheduling.message) or quoted(scheduling.reason) or "no scheduler has looked at it"


def kind(detail: str) -> str:
    """Return the detail without its numbers: the same for all variations of it."""
    return re.sub(r"\d+", "#", detail)


def is_worth_reporting(detail: str, *, reported: str, kinds: frozenset[str]) -> bool:
    """Whether this is news for who was last told ``reported``, and has heard of ``kinds`` of trouble before.

    See :class:`worker.rules.history.PodHistory`; nobody knows them after a takeover.
    """
    what = detail.partition(": ")[0]
    if what != reported.partition(": ")[0]:
        return True
    if _BARE_BACK_OFF.search(detail) and any(known.startswith(f"{what}: Err") for known in (reported, *kinds)):
        return False
    found = kind(detail)
    return found != kind(reported) and found not in kinds and len(kinds) < MAX_KINDS

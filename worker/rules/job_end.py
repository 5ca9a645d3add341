"""Which containers' ends make a job's end (``end_when``), and what is told of the others.

With ``base`` the base container's end is the job's. With ``all`` the job ends when every plain container of its pod has
ended, those that admission has added too: so the pod's phase says the same as the job, and the job what
KubernetesPodOperator says. Native sidecars (and so the return value's) never count.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from dispatcher.spec import JobSpec, OnFinish
from worker.cluster.observation import Container, Observation
from worker.rules.failures import describe_exit, exit_words, first_termination
from worker.rules.history import deletion_came_first

#: Istio's proxy as a plain container never ends by itself. In a pod that has one KubernetesPodOperator looks at the
#: base container alone, and so does ``all``.
ISTIO_PROXY: Final = "istio-proxy"

#: How many containers a sentence names: a pod may have any number.
MOST_NAMED: Final = 10


def awaited(spec: JobSpec, pod: Observation) -> tuple[Container, ...]:
    """Return the containers besides base whose ends the job's end waits for.

    As for the base container, the end of a first run stands, where the cluster started the container again.
    """
    plain = pod.plain_containers
    if spec.end_when == "base" or any(c.name == ISTIO_PROXY for c in plain):
        return ()
    return tuple(first_termination(c) or c for c in plain if c.name != spec.base_container)


def progress_detail(counted: Sequence[Container]) -> str:
    """Say which of the containers whose ends count have ended, and which are waited for; nothing before one has."""
    ended = [c for c in counted if c.state == "terminated"]
    awaits = [c.name if c.has_started else f"{c.name} (not started)" for c in counted if c.state != "terminated"]
    if not ended or not awaits:
        return ""
    return f"{listed(_how_it_ended(c) for c in ended)}; waiting for {listed(awaits)}"


def _how_it_ended(container: Container) -> str:
    return f"{container.name} has ended" if container.exit_code == 0 else f"{container.name} {describe_exit(container)}"


def told_beside(spec: JobSpec, pod: Observation, *, has_failed: bool) -> str:
    """Say what was not well with the other containers that the spec asks for, where the base container's end counted.

    Those that failed by themselves and, where the job succeeded, those that had not ended when it did. Of what
    admission has added (proxies, agents) nothing is said: such containers seldom end, and nobody asked for them.
    """
    asked = _asked_for(spec)
    others = [first_termination(c) or c for c in pod.plain_containers if c.name in asked]
    cut = [c.name for c in others if c.state != "terminated" or deletion_came_first(pod, c)]
    failures = [words for c in others if c.name not in cut and (words := exit_words(c))]
    said = []
    if failures:
        how = "Others failed too" if has_failed else "Other containers failed, and only base counts"
        said.append(f"{how}: {listed(failures)}.")
    if cut and not has_failed:
        is_kept = spec.on_finish is OnFinish.KEEP_POD and not pod.is_being_deleted
        becomes = "goes on in its pod, which is kept" if is_kept else "is ended with its pod"
        why = f"beside {ISTIO_PROXY} base alone counts"
        if spec.end_when == "base":
            why = "end_when: all would wait for it"
        said.append(f"The job ended with its base container, before {listed(cut)}: what still runs {becomes} ({why}).")
    return " ".join(said)


def _asked_for(spec: JobSpec) -> frozenset[str]:
    template = (spec.pod_template or {}).get("spec") or {}
    asked = (*(template.get("containers") or ()), *spec.containers)
    return frozenset(str(container.get("name")) for container in asked) - {spec.base_container}


def listed(names: Iterable[str]) -> str:
    """Join some names, or other words for containers: the first few of any number."""
    every = iter(names)
    shown, more = list(islice(every, MOST_NAMED)), sum(1 for _ in every)
    return ", ".join([*shown, *([f"and {more} more"] if more else [])])

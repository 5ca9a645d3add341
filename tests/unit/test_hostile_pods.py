"""Whatever stands in a pod (a webhook's, a foreign controller's, somebody's kubectl): one look never raises.

The watch reads thousands of pods with the same loop; one that cannot be read must cost nothing but itself.
"""

import copy
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher.events import JobResult
from dispatcher.record import JobRecord
from dispatcher.spec import JobSpec
from dispatcher.status import Status
from tests.support.junk import JUNK, places, replaced
from tests.support.recordings import SITUATIONS, steps
from worker.cluster.observation import Observation, container_ends
from worker.cluster.pod_json import UnreadablePodError, observe
from worker.rules.history import PodHistory
from worker.rules.job_end import told_beside
from worker.rules.judge import judge

#: As most jobs are, and one that waits for its other containers.
SIDE = {"name": "side", "image": "x"}
SPECS = (JobSpec(id="j", image="x"), JobSpec(id="j", image="x", containers=(SIDE,), end_when="all", run_timeout_s=1))

WAITING = steps("plain-sidecar-keeps-running")[4].pod
PODS = [step.pod for situation in SITUATIONS for step in steps(situation)[-3:]]


def look(pod: Any) -> Observation | None:
    """One look as a follower takes it, to the bytes of the result; None where there is no pod."""
    try:
        found = observe(pod)
    except UnreadablePodError:
        return None
    for spec in SPECS:
        record = JobRecord("j", spec, spec.digest, Status.STARTING, attempt=1, reached={"queued": 0.0, "starting": 1.0})
        judge(spec, record, found, 2.0, seen=PodHistory())
        judge(spec, record, None, 9e9, seen=PodHistory().after(found, "base", 1.0))
        told_beside(spec, found, has_failed=False)
    JobResult(job_id="j", status=Status.FAILED, containers=container_ends(found)).model_dump_json()
    return found


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:30])
def test_junk_in_any_place_of_a_pod_costs_only_what_it_stands_for(junk: Any) -> None:
    for pod in (
        PODS[0],
        PODS[-1],
        steps("evicted-through-api")[-1].pod,
        steps("native-sidecar-return-value")[-2].pod,
        WAITING,
    ):
        for path in places(pod):
            look(replaced(pod, path, junk))


json_values = st.recursive(
    st.sampled_from(JUNK) | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(pod=st.sampled_from(PODS), data=st.data())
def test_any_json_in_any_place_of_a_pod_is_one_look_or_the_one_named_error(pod: dict[str, Any], data: Any) -> None:
    junk = data.draw(json_values)
    for path in data.draw(st.lists(st.sampled_from(list(places(pod))), min_size=1, max_size=2)):
        if path in places(pod):
            pod = replaced(pod, path, junk)
    look(pod)


@given(json_values)
@example({"metadata": {}})
@example({"metadata": {"name": ""}})
def test_what_is_no_pod_is_refused_by_name(value: Any) -> None:
    with pytest.raises(UnreadablePodError, match="not a pod"):
        observe(value)


def test_a_pod_with_a_hostile_attempt_is_no_attempt_of_ours() -> None:
    pod = copy.deepcopy(PODS[0])
    pod["metadata"]["labels"] = {"podrelay.dev/attempt": "9" * 5000}
    found = look(pod)
    assert found is not None
    assert found.attempt == 0

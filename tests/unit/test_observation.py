import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.recordings import SITUATIONS, steps
from worker.cluster.observation import Container, Observation, container_ends
from worker.cluster.pod_json import observe

GOLDEN = Path(__file__).parent / "golden" / "observations.txt"


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-22T09:{text}Z")


def last(situation: str) -> Observation:
    return observe(steps(situation)[-1].pod)


def base(situation: str, step: int = -1) -> Container:
    found = observe(steps(situation)[step].pod).container("base")
    assert found is not None
    return found


def told(observation: Observation) -> str:
    """An observation on one line, for the golden file."""
    clock = "%M:%S"
    words = [observation.phase, observation.reason, f"node={observation.node or '-'}"]
    words += [] if observation.scheduling.is_scheduled else [f"unscheduled({observation.scheduling.reason})"]
    words += ["sandbox"] if observation.is_sandbox_ready else []
    words += ["user-code"] if observation.user_code_started else []
    if observation.disruption:
        words += [f"disruption({observation.disruption.reason})"]
    if observation.deletion_due_at:
        asked = f"{observation.deletion_requested_at:{clock}}" if observation.deletion_requested_at else "unknown"
        words += [
            f"deletion(asked={asked} due={observation.deletion_due_at:{clock}} {observation.deletion_grace_s:g}s)"
        ]
    for c in observation.containers:
        times = [f"{t:{clock}}" if t else "-" for t in (c.started_at, c.finished_at)]
        text = f"{c.name}[{c.kind} {c.state} {c.reason or '-'} {c.exit_code} {'..'.join(times)}"
        words += [text + (f" x{c.restarts}" if c.restarts else "") + (" started]" if c.has_started else "]")]
    return " ".join(word for word in words if word)


def render() -> str:
    """The golden file: ``python -m tests.unit.test_observation`` prints it anew."""
    out = []
    for situation in SITUATIONS:
        if found := steps(situation):
            out.append(situation)
            out += [f"  {step.t:6} {step.type:8} {told(observe(step.pod))}" for step in found]
    return "\n".join(out) + "\n"


def test_every_step_of_every_recording_is_observed_as_before() -> None:
    assert render() == GOLDEN.read_text()


@pytest.mark.parametrize("situation", [s for s in SITUATIONS if steps(s)])
def test_every_container_of_the_spec_is_observed_from_the_first_moment(situation: str) -> None:
    for step in steps(situation):
        spec = step.pod["spec"]
        declared = [c["name"] for c in [*spec.get("initContainers", []), *spec["containers"]]]
        assert [c.name for c in observe(step.pod).containers] == declared


@pytest.mark.parametrize("situation", [s for s in SITUATIONS if steps(s)])
def test_what_has_started_stays_started(situation: str) -> None:
    started: set[str] = set()
    for step in steps(situation):
        now = {c.name for c in observe(step.pod).containers if c.has_started}
        assert started <= now
        started = now


def test_a_command_that_is_not_there_never_started() -> None:
    found = base("command-not-found")
    assert (found.state, found.reason, found.exit_code) == ("terminated", "StartError", 128)
    assert found.started_at is None
    assert not found.has_started
    assert not last("command-not-found").user_code_started


def test_the_deletion_was_asked_for_a_grace_period_before_it_is_due() -> None:
    found = observe(steps("deleted-while-running")[6].pod)
    assert (found.deletion_requested_at, found.deletion_due_at) == (at("05:40"), at("05:45"))


def test_the_kubelets_own_last_deletion_does_not_hide_who_asked_first() -> None:
    """At the end the kubelet moves ``deletionTimestamp`` behind the container's end and the grace to 0."""
    found = last("deleted-while-running")
    ended = found.container("base")
    assert ended is not None
    assert ended.finished_at is not None
    assert found.deletion_due_at is not None
    assert ended.finished_at < found.deletion_due_at
    assert found.deletion_requested_at is None


def test_a_pod_that_had_ended_is_deleted_at_once() -> None:
    found = last("success")
    assert found.deletion_grace_s == 0
    assert found.deletion_requested_at == at("04:00")


def test_a_native_sidecar_is_no_init_container() -> None:
    kinds = {c.name: c.kind for c in last("native-sidecar-return-value").containers}
    assert kinds == {"return-value": "sidecar", "base": "main"}
    assert [c.kind for c in last("init-container-ok").containers] == ["init", "main"]


def test_an_eviction_stands_in_the_disruption_target() -> None:
    found = last("evicted-through-api").disruption
    assert found is not None
    assert (found.reason, found.since) == ("EvictionByEvictionAPI", at("05:59"))


def test_a_restarted_container_that_waits_has_started() -> None:
    waiting = next(s for s in range(20) if base("restart-on-failure", s).reason == "CrashLoopBackOff")
    assert base("restart-on-failure", waiting).has_started


def test_scheduling_gates_are_named() -> None:
    found = observe(steps("scheduling-gate")[0].pod).scheduling
    assert (found.is_scheduled, found.reason) == (False, "SchedulingGated")
    assert "example.com/wait" in found.message


def test_container_ends_tell_the_result_what_each_container_did() -> None:
    prep, main = container_ends(last("init-container-fails"))
    assert (prep.name, prep.is_init, prep.state, prep.exit_code) == ("prep", True, "terminated", 7)
    assert (main.state, main.reason, main.exit_code) == ("waiting", "PodInitializing", None)
    assert prep.finished_at == datetime(2026, 11, 22, 9, 6, 23, tzinfo=UTC)


def test_our_labels_and_annotations_are_read() -> None:
    pod = {
        "metadata": {
            "name": "p",
            "labels": {
                "podrelay.dev/installation": "prod",
                "podrelay.dev/queue": "q",
                "podrelay.dev/job": "j",
                "podrelay.dev/attempt": "2",
                "podrelay.dev/done": "true",
            },
            "annotations": {"podrelay.dev/spec-digest": "d", "podrelay.dev/key": "k"},
        }
    }
    found = observe(pod)
    assert (found.installation, found.queue, found.job_id, found.attempt) == ("prod", "q", "j", 2)
    assert (found.digest, found.key_hash, found.is_done) == ("d", "k", True)


@pytest.mark.parametrize("attempt", ["", "x", "-1", "²"])
def test_a_foreign_attempt_label_is_no_attempt(attempt: str) -> None:
    assert observe({"metadata": {"name": "p", "labels": {"podrelay.dev/attempt": attempt}}}).attempt == 0


def test_observing_is_cheap() -> None:
    pod = steps("native-sidecar-return-value")[-1].pod
    cpu_s = time.process_time()
    for _ in range(2000):
        observe(pod)
    assert 2000 / (time.process_time() - cpu_s) > 5000  # measured: about 40,000/s; catches a change of order only


if __name__ == "__main__":
    sys.stdout.write(render())

"""A follower that carries verdicts out on paper, for tests of the judge."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dispatcher.record import JobRecord
from dispatcher.spec import JobSpec
from dispatcher.status import Status
from tests.support.recordings import Step
from worker.cluster.pod_json import observe
from worker.rules.history import PodHistory
from worker.rules.judge import judge
from worker.rules.verdict import AttemptEnded, DeletePod, Running, Settled, Starting, Verdict

#: Redis' clock is far from the cluster's, on purpose.
EPOCH_S = 1_000_000.0


def spec_of(**fields: Any) -> JobSpec:
    return JobSpec(**{"id": "j", "image": "python:3", "image_pull_grace_s": 15, "startup_timeout_s": 600, **fields})


def record_of(spec: JobSpec, **fields: Any) -> JobRecord:
    fields = {"status": Status.STARTING, "reached": {"starting": EPOCH_S}, **fields}
    return JobRecord("j", spec, spec.digest, attempt=1, namespace="ns", **fields)


class JobController:
    """Carries verdicts out as the supervisor does, as far as the record goes."""

    def __init__(self, spec: JobSpec, record: JobRecord | None = None) -> None:
        self.spec, self.record, self.seen = spec, record or record_of(spec), PodHistory()

    def see(self, pod: dict[str, Any] | None, t: float) -> Verdict:
        now = EPOCH_S + t
        observation = None if pod is None else observe(pod)
        verdict = judge(self.spec, self.record, observation, now, seen=self.seen)
        if observation is not None:
            self.seen = self.seen.after(observation, self.spec.base_container, now)
        self._note(verdict, now)
        return verdict

    def _note(self, verdict: Verdict, now: float) -> None:
        record = self.record
        match verdict:
            case Running() if record.status is not Status.RUNNING:
                self.record = replace(record, status=Status.RUNNING, reached={**record.reached, "running": now})
            case DeletePod(intent, reason, message):
                self.record = replace(record, deletion_intent=intent, intent_reason=reason, intent_message=message)
            case AttemptEnded(status):
                self.record = replace(record, status=status)
            case Starting() | Running() | Settled():
                pass

    def follow(self, watched: list[Step]) -> Iterator[tuple[Step, Verdict]]:
        for step in watched:
            yield step, self.see(step.pod, step.t)
            if step.type == "DELETED":
                yield Step(step.t, "(gone)", {}), self.see(None, step.t)

"""The jobs of a chaos run: what is planned, what is done to them by hand, and what must come of it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dispatcher.spec import JobSpec, parse_spec
from dispatcher.status import FailureReason, Status


class Intervention(StrEnum):
    """What somebody does to a job while it runs."""

    NONE = "none"
    CANCEL = "cancel"
    EVICT = "evict"
    DELETE = "delete"


@dataclass(frozen=True)
class PlannedJob:
    """One job and its expected end."""

    kind: str
    spec: JobSpec
    status: Status
    reason: FailureReason | None = None
    attempts: int = 1
    intervention: Intervention = Intervention.NONE
    intervene_after_s: float = 0.0


def make_jobs(rng: random.Random, count: int) -> list[PlannedJob]:
    """So many jobs of mixed kinds, the same for the same seed."""
    kinds = list(KINDS)
    weights = [weight for weight, _ in KINDS.values()]
    return [KINDS[kind][1](rng, number, kind) for number, kind in enumerate(rng.choices(kinds, weights, k=count))]


def _spec(
    rng: random.Random, number: int, kind: str, args: dict[str, object], fields: dict[str, object] | None = None
) -> JobSpec:
    data = {
        "id": f"{kind}-{number}-{rng.getrandbits(32):08x}",
        "name": kind,
        "image": "simulated:latest",
        "args": [f"--{name}={value}" for name, value in args.items()],
        **({"key": f"key-{number}"} if rng.random() < 0.3 else {}),
        **(fields or {}),
    }
    return parse_spec(data, kind)


def _fast(rng: random.Random, number: int, kind: str) -> PlannedJob:
    args: dict[str, object] = {"lines": rng.randrange(0, 20), "line-bytes": rng.choice([20, 200, 40_000])}
    return PlannedJob(kind, _spec(rng, number, kind, args), Status.SUCCEEDED)


def _chatty(rng: random.Random, number: int, kind: str) -> PlannedJob:
    """5 MB of log, at once or over some seconds, many lines with one timestamp among them."""
    args: dict[str, object] = {"lines": 50_000, "line-bytes": 100, "rate": rng.choice([0, 5_000, 20_000])}
    args["same-timestamps"] = rng.choice([1, 1, 13, 700])
    return PlannedJob(kind, _spec(rng, number, kind, args), Status.SUCCEEDED)


def _long(rng: random.Random, number: int, kind: str) -> PlannedJob:
    rate = rng.choice([2, 20, 100])
    args: dict[str, object] = {"lines": rate * rng.randrange(8, 25), "rate": rate, "line-bytes": rng.choice([50, 5000])}
    return PlannedJob(kind, _spec(rng, number, kind, args), Status.SUCCEEDED)


def _failing(rng: random.Random, number: int, kind: str) -> PlannedJob:
    args: dict[str, object] = {"lines": 30, "rate": rng.choice([0, 10]), "exit-code": 7}
    return PlannedJob(kind, _spec(rng, number, kind, args), Status.FAILED, FailureReason.EXIT_CODE)


def _value(rng: random.Random, number: int, kind: str) -> PlannedJob:
    args: dict[str, object] = {"lines": 5, "duration": rng.uniform(0, 3), "return-value": f'{{"number": {number}}}'}
    return PlannedJob(kind, _spec(rng, number, kind, args, {"return_value": True}), Status.SUCCEEDED)


def _two(rng: random.Random, number: int, kind: str) -> PlannedJob:
    """Two containers that end in any order: the job waits for both."""
    args: dict[str, object] = {"lines": rng.randrange(0, 60), "rate": 20}
    code = rng.choice([0, 0, 9])
    other = [f"--lines={rng.randrange(0, 120)}", "--rate=20", f"--exit-code={code}"]
    side = {"name": "side", "image": "simulated:latest", "args": other}
    spec = _spec(rng, number, kind, args, {"containers": [side], "container_logs": "all", "end_when": "all"})
    if code == 0:
        return PlannedJob(kind, spec, Status.SUCCEEDED)
    return PlannedJob(kind, spec, Status.FAILED, FailureReason.CONTAINER_FAILED)


def _cancelled(rng: random.Random, number: int, kind: str) -> PlannedJob:
    spec = _spec(rng, number, kind, {"lines": 6000, "rate": 10, "duration": 600})
    return PlannedJob(
        kind,
        spec,
        Status.CANCELLED,
        intervention=Intervention.CANCEL,
        intervene_after_s=rng.choice([0.0, 0.05, 0.5, 6.0]),
    )


def _evicted(rng: random.Random, number: int, kind: str) -> PlannedJob:
    spec = _spec(rng, number, kind, {"lines": 100, "rate": 10}, {"retry_on": ["evicted"]})
    return PlannedJob(
        kind, spec, Status.SUCCEEDED, attempts=2, intervention=Intervention.EVICT, intervene_after_s=rng.uniform(0, 2)
    )


def _deleted(rng: random.Random, number: int, kind: str) -> PlannedJob:
    spec = _spec(rng, number, kind, {"lines": 6000, "rate": 10, "duration": 600})
    return PlannedJob(
        kind,
        spec,
        Status.FAILED,
        FailureReason.POD_DELETED,
        intervention=Intervention.DELETE,
        intervene_after_s=rng.uniform(0, 4),
    )


#: How often each is planned, and what plans it.
KINDS: dict[str, tuple[int, Callable[[random.Random, int, str], PlannedJob]]] = {
    "fast": (30, _fast),
    "chatty": (8, _chatty),
    "long": (25, _long),
    "failing": (10, _failing),
    "value": (8, _value),
    "two": (8, _two),
    "cancelled": (10, _cancelled),
    "evicted": (5, _evicted),
    "deleted": (4, _deleted),
}

"""Records that another version, an accident or an attacker has written: one field of a correct record is another, or
the key is of another type."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from dispatcher import names
from dispatcher.spec import JobSpec

DEEP = "[" * 5000 + "]" * 5000
ABSENT = b"\0absent"


@dataclass(frozen=True)
class Forgery:
    """``field``: which one this version cannot read; ``is_for_workers``: whether a worker must leave the job alone."""

    fields: Mapping[str, str | bytes]
    field: str
    is_for_workers: bool = True


FORGERIES: dict[str, Forgery] = {
    "a status of a newer version": Forgery({"status": "PAUSED"}, "status"),
    "an empty status": Forgery({"status": ""}, "status"),
    "no status": Forgery({"status": ABSENT}, "status"),
    "a status that is no text": Forgery({"status": b"\xff\xfe"}, "status"),
    "no queue": Forgery({"queue": ABSENT, "namespace": "elsewhere"}, "queue"),
    "a queue that is none": Forgery({"queue": "a b"}, "queue"),
    "an intent of a newer version": Forgery({"intent": "foo"}, "intent"),
    "the reason of an intent of a newer version": Forgery({"intent": "failed", "intent_reason": "x"}, "intent_reason"),
    **{
        f"epoch {text!r}": Forgery({"epoch": text}, "epoch")
        for text in (
            "x",
            "nan",
            "inf",
            "1e30",
            "-1",
            "007",
            "9" * 40,
            "1.5",
            "",
            b"\xff",
            "9007199254740990",
            "1000000000",
        )
    },
    "an attempt that no worker comes to": Forgery({"attempt": "1000000000"}, "attempt"),
    "attempt x": Forgery({"attempt": "x"}, "attempt"),
    "takeovers -3": Forgery({"takeovers": "-3"}, "takeovers"),
    **{
        f"needs version {text!r}": Forgery({"at:min_worker_version": text}, "at:min_worker_version")
        for text in ("", "0.2", "1.2.3.4", "10000.0.0", "v1.0.0", ">= 0.2.0", "[1]", b"\xff", "-1.0.0")
    },
    "not_before nan": Forgery({"not_before": "nan"}, "not_before"),
    "queued at x": Forgery({"at:queued": "x"}, "at:queued"),
    "queued at nan": Forgery({"at:queued": "nan"}, "at:queued"),
    "running at 1e300": Forgery({"at:running": "1e300"}, "at:running"),
    "reached at no UTF-8": Forgery({"at:\udcff": "\udcff"}, "at:\\xff"),
    "a checkpoint that is none": Forgery({"checkpoint:1:base": "junk"}, "checkpoint:1:base"),
    "a checkpoint of no attempt": Forgery({"checkpoint:x:base": "0 - 0 0 - " + "0" * 64}, "checkpoint:x:base"),
    "no spec": Forgery({"spec": ABSENT}, "spec", is_for_workers=False),
    "a spec that is nested deep": Forgery({"spec": DEEP}, "spec", is_for_workers=False),
    "a spec with a template that is nested deep": Forgery(
        {"spec": '{"id":"f1","image":"x","pod_template":{"spec":' + '{"a":' * 5000 + "1" + "}" * 5002},
        "spec",
        is_for_workers=False,
    ),
    "a spec that is no UTF-8": Forgery({"spec": b"\xff{}"}, "spec", is_for_workers=False),
    "a result that is no JSON": Forgery({"status": "FAILED", "result": "{"}, "result", is_for_workers=False),
    "a result that is nested 300 deep": Forgery(
        {"status": "SUCCEEDED", "result": '{"return_value":' + "[" * 300 + "]" * 300 + "}"},
        "result",
        is_for_workers=False,
    ),
    "a result that is nested 5,000 deep": Forgery(
        {"status": "SUCCEEDED", "result": DEEP}, "result", is_for_workers=False
    ),
}

#: Junk in a field that says nothing about the job's state is no reason to leave it alone.
HARMLESS: dict[str, dict[str, str | bytes]] = {
    "a field of a newer version": {"colour": "blue"},
    "a reason of a newer version": {"status": "FAILED", "reason": "black_hole"},
    "what it waits for is newer": {"wait": "the moon"},
    "retention 1e30": {"retention_s": "1e30"},
    "retention nan": {"retention_s": "nan"},
    "retention x": {"retention_s": "x"},
    "a queue timeout x": {"queue_timeout_s": "x"},
    "detail that is no UTF-8": {"detail": b"\xff"},
}


def a_record(job_id: str, **fields: Any) -> dict[bytes, bytes]:
    """An otherwise correct record: queued for 100 seconds, without an owner, with these fields instead."""
    at, spec = f"{time.time() - 100:.6f}", JobSpec(id=job_id, image="busybox:1.36", command=("true",))
    correct = {
        "spec": spec.encode(),
        "digest": spec.digest,
        "queue": "default",
        "status": "QUEUED",
        "generation": "g",
        "attempt": "0",
        "epoch": "0",
        "at:submitted": at,
        "at:queued": at,
        "retention_s": "86400.0",
        "acknowledged_retention_s": "3600.0",
        "queue_timeout_s": "86400.0",
    }
    told = {_raw(name): _raw(value) for name, value in {**correct, **fields}.items()}
    return {name: value for name, value in told.items() if value != ABSENT}


def forge(client: "redis.Redis", job_id: str, fields: Mapping[str, str | bytes]) -> None:
    """Write the record, and list it among the active jobs."""
    client.hset(names.job(job_id), mapping=a_record(job_id, **fields))  # type: ignore[arg-type]
    client.zadd(names.active("default"), {job_id: time.time() - 100})


#: Keys of another type than ours.
MISTYPED: dict[str, Callable[[str], str]] = {
    "record": names.job,
    "events": names.events,
    "log": names.log,
    "active": lambda _: names.active("default"),
    "recent": lambda _: names.recent("default"),
    "workers": lambda _: names.workers("default"),
    "queues": lambda _: names.queues(),
    "generation": lambda _: names.GENERATION,
}


def mistype(client: "redis.Redis", key: str) -> None:
    """Make the key one of a type that no key of ours has here."""
    client.delete(key)
    if key == names.GENERATION:
        client.rpush(key, "junk")
    else:
        client.set(key, "junk")


WORKER_ENTRIES: tuple[bytes, ...] = (
    b"",
    b"junk",
    b"[]",
    b"null",
    b"\xff\xfe",
    DEEP.encode(),
    *(
        json.dumps(x).encode()
        for x in (
            {"last_seen": "x"},
            {"last_seen": {}},
            {"last_seen": -1},
            {"last_seen": 1e300},
            {"last_seen": None, "namespaces": 5, "refused": "x"},
            {"namespaces": {"a": 1}, "refused": [1]},
            {"namespaces": [["default"]], "refused": {"elsewhere": {"deep": 1}}},
            {"namespaces": "default", "followed": {}, "max_jobs": []},
        )
    ),
    b'{"last_seen": 1e999}',
    b'{"last_seen": NaN}',
)


def _raw(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")

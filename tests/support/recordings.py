"""The recordings of a real API server, as the unit tests read them."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

RECORDINGS = Path(__file__).parent.parent / "recordings"
SITUATIONS = tuple(sorted(path.stem for path in RECORDINGS.glob("*.jsonl")))


class Step(NamedTuple):
    """One event of a recorded pod watch; ``t`` in seconds since the recording began."""

    t: float
    type: str
    pod: dict[str, Any]


def lines(situation: str) -> Iterator[dict[str, Any]]:
    with (RECORDINGS / f"{situation}.jsonl").open() as file:
        for line in file:
            yield json.loads(line)


def steps(situation: str) -> list[Step]:
    """The watch events of the situation's first pod."""
    found = [
        Step(line["t"], line["type"], line["object"])
        for line in lines(situation)
        if line["kind"] == "watch" and line["object"].get("kind") == "Pod" and line["type"] != "BOOKMARK"
    ]
    return [step for step in found if step.pod["metadata"]["uid"] == found[0].pod["metadata"]["uid"]]


def log(situation: str, *, query: str, container: str = "base", status: int = 200) -> bytes:
    """The whole bytes of the recorded answer of the log endpoint."""
    for line in lines(situation):
        asked = (line["kind"], line.get("container"), line.get("query"), line["status"] if "query" in line else 0)
        if asked == ("log", container, query, status):
            return base64.b64decode(line["base64"])
    raise LookupError(f"{situation}: no log of {container!r} with query {query!r}")

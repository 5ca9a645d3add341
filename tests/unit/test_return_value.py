import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dispatcher.events import Ended, JobResult, ReturnValueOutcome, decode_event, encode_event
from dispatcher.names import MAX_RETURN_VALUE_BYTES, RETURN_VALUE_FILE
from dispatcher.spec import JobSpec
from dispatcher.status import Status
from tests.support.recordings import log
from worker.jobs.return_value import MAX_LOG_BYTES, parse_return_value
from worker.rules.manifest import manifest

SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]


def printed(content: bytes) -> bytes:
    return b"podrelay-return-value %d %s\n" % (len(content), hashlib.sha256(content).hexdigest().encode()) + content


@pytest.mark.parametrize("value", [None, 42, "text", {"rows": [1, 2]}, "ünïcode", [], "line\nline"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_value_arrives_as_it_was_written(value: Any, end: bytes) -> None:
    log = printed(json.dumps(value, ensure_ascii=False).encode() + end)
    assert parse_return_value(log) == (ReturnValueOutcome.PRESENT, value, "")


@pytest.mark.parametrize(
    ("log", "outcome", "words"),
    [
        (b"podrelay-return-value missing\n", ReturnValueOutcome.MISSING, "wrote no return value"),
        (b"podrelay-return-value too-large 9999999\n", ReturnValueOutcome.TOO_LARGE, "9999999 bytes"),
        (b"podrelay-return-value 9999999 00\n", ReturnValueOutcome.TOO_LARGE, "at most 1048576"),
        (b"podrelay-return-value unreadable\n", ReturnValueOutcome.TRUNCATED, "may not read"),
        (b"", ReturnValueOutcome.TRUNCATED, "before it could print"),
        (b"podrelay-return", ReturnValueOutcome.TRUNCATED, "before it could print"),
        (b"podrelay-return-value what\n", ReturnValueOutcome.TRUNCATED, "damaged"),
        (printed(b'{"a": 1}')[:-1], ReturnValueOutcome.TRUNCATED, "only 7 of 8 bytes"),
        (printed(b'{"a": 1}').replace(b"1}", b"2}"), ReturnValueOutcome.TRUNCATED, "checksum"),
        (printed(b"rows: 42"), ReturnValueOutcome.NOT_JSON, "not JSON"),
        (printed(b"\xff\xfe\xfa"), ReturnValueOutcome.NOT_JSON, "not JSON"),
        (printed(b"[NaN]"), ReturnValueOutcome.NOT_JSON, "NaN is no JSON number"),
        (printed(b"[1e999]"), ReturnValueOutcome.NOT_JSON, "1e999 is no finite number"),
        (printed(b"-1E+400"), ReturnValueOutcome.NOT_JSON, "no finite number"),
        (printed(b'"\\ud800"'), ReturnValueOutcome.NOT_JSON, "surrogate"),
        (printed(b"[" * 100_000), ReturnValueOutcome.NOT_JSON, "nested deeper than 100 levels"),
        (printed(b"[" * 300 + b"]" * 300), ReturnValueOutcome.NOT_JSON, "nested deeper than 100 levels"),
        (printed(b'{"a":' * 101 + b"1" + b"}" * 101), ReturnValueOutcome.NOT_JSON, "nested deeper than 100 levels"),
        (printed(b"1" * 5000), ReturnValueOutcome.NOT_JSON, "digit"),
    ],
)
def test_each_way_of_having_no_value_has_its_own_outcome(log: bytes, outcome: ReturnValueOutcome, words: str) -> None:
    found, value, message = parse_return_value(log)
    assert (found, value) == (outcome, None)
    assert words in message


def test_a_value_that_is_nested_as_deep_as_allowed_arrives_at_the_reader() -> None:
    outcome, value, _ = parse_return_value(printed(b"[" * 100 + b"]" * 100))
    result = JobResult(job_id="j", status=Status.SUCCEEDED, return_value=value, return_value_outcome=outcome)
    event = decode_event(encode_event(Ended(result=result)))
    assert isinstance(event, Ended)
    assert event.result.return_value == value


def test_a_real_sidecar_of_an_older_form_is_not_taken_for_a_value() -> None:
    found, _, _ = parse_return_value(log("native-sidecar-return-value", container="return-value", query=""))
    assert found is ReturnValueOutcome.TRUNCATED


def run_sidecar(shell: list[str], directory: Path) -> bytes:
    """What the sidecar's own script prints when it is told to end."""
    spec = JobSpec(id="j", image="x", return_value=True)
    pod = manifest(spec, attempt=1, namespace="ns", installation="prod", return_value_image="busybox")
    script = pod["spec"]["initContainers"][0]["command"][2]
    script = script.replace(RETURN_VALUE_FILE, str(directory / "return.json"))
    script = script.replace('wait "$p"', 'echo ready >&2; wait "$p"')
    with subprocess.Popen([*shell, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == b"ready\n"
            process.terminate()
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, b"")
    return out


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    ("content", "outcome", "value"),
    [
        (None, ReturnValueOutcome.MISSING, None),
        (b"", ReturnValueOutcome.MISSING, None),
        (b'{"rows": 42}', ReturnValueOutcome.PRESENT, {"rows": 42}),
        (b'{"rows": 42}\n', ReturnValueOutcome.PRESENT, {"rows": 42}),
        (b"not json", ReturnValueOutcome.NOT_JSON, None),
        (
            b'"' + b"x" * (MAX_RETURN_VALUE_BYTES - 2) + b'"',
            ReturnValueOutcome.PRESENT,
            "x" * (MAX_RETURN_VALUE_BYTES - 2),
        ),
        (b"1" * (MAX_RETURN_VALUE_BYTES + 1), ReturnValueOutcome.TOO_LARGE, None),
    ],
)
def test_the_sidecars_script_is_understood(
    tmp_path: Path, shell: list[str], content: bytes | None, outcome: ReturnValueOutcome, value: Any
) -> None:
    if content is not None:
        (tmp_path / "return.json").write_bytes(content)
    printed = run_sidecar(shell, tmp_path)
    assert len(printed) <= MAX_LOG_BYTES
    found, got, _ = parse_return_value(printed)
    assert found is outcome
    assert got == value


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_file_that_the_sidecar_may_not_read_is_told(tmp_path: Path, shell: list[str]) -> None:
    (tmp_path / "return.json").write_text("1")
    (tmp_path / "return.json").chmod(0)
    assert run_sidecar(shell, tmp_path) == b"podrelay-return-value unreadable\n"

"""What the command says of bad input and of an unreachable Redis: one line, an exit code, nothing published."""

import json
from pathlib import Path

import pytest
import redis

from tests.support.podrelay_process import Podrelay


def _is_empty(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        return int(client.dbsize()) == 0


def test_a_misspelled_field_in_a_file_is_named_with_its_path_and_the_nearest_known_name(
    podrelay: Podrelay, tmp_path: Path
) -> None:
    spec = tmp_path / "job.yaml"
    spec.write_text("image: python:3.12\nenv:\n  - name: A\n    vaule: x\nresorces: {}\n")
    done = podrelay("submit", "-f", str(spec), "--follow")
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        f"podrelay: {spec}: env[0].vaule: unknown field (did you mean 'value'?)",
        f"podrelay: {spec}: resorces: unknown field (did you mean 'resources'?)",
    ]
    assert done.stdout == b""
    assert _is_empty(podrelay.redis_url)


@pytest.mark.parametrize(
    ("words", "stdin", "told"),
    [
        (["-f", "-"], "image: a\n b: [\n", "standard input: line 2, column 3"),
        (["--image", "a", "--env", "A"], "", "--env: 'A': expected KEY=VALUE"),
        (["--imaeg", "a"], "", "No such option: --imaeg"),
    ],
)
def test_bad_input_ends_with_2_and_publishes_nothing(
    podrelay: Podrelay, words: list[str], stdin: str, told: str
) -> None:
    done = podrelay("submit", *words, stdin=stdin)
    assert done.returncode == 2
    assert told in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert _is_empty(podrelay.redis_url)


def test_a_misspelled_setting_stops_the_command(podrelay: Podrelay) -> None:
    done = podrelay("list", PODRELAY_REDIS_URI="redis://elsewhere")
    assert done.returncode == 2
    assert b"did you mean 'PODRELAY_REDIS_URL'?" in done.stderr


def test_an_unreachable_redis_is_one_line_with_the_password_masked_and_exit_code_3() -> None:
    done = Podrelay("redis://user:pa55word@127.0.0.1:1/0")("submit", "--image", "a", "--follow")
    assert done.returncode == 3
    assert done.stderr.decode().startswith("podrelay: Redis at redis://user:***@127.0.0.1:1/0 cannot be used: ")
    assert len(done.stderr.splitlines()) == 1
    assert b"pa55word" not in done.stderr + done.stdout


@pytest.mark.parametrize("url", ["http://h:1/0", "redis://h:port/0"])
def test_a_redis_url_that_is_none_is_bad_input(url: str) -> None:
    done = Podrelay(url)("list")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["status"], ["logs"], ["logs", "-f"], ["cancel"]])
def test_an_unknown_job_is_exit_code_4(podrelay: Podrelay, words: list[str]) -> None:
    done = podrelay(*words, "nobody-knows-it")
    assert done.returncode == 4
    assert done.stderr.decode().startswith("podrelay: job 'nobody-knows-it' is unknown")


@pytest.mark.parametrize("more", [["--json"], ["--follow"], ["--json", "--follow"], []])
def test_an_id_that_is_taken_is_bad_input_and_says_where_the_first_one_is(podrelay: Podrelay, more: list[str]) -> None:
    first = ["submit", "--id", "x", "--image", "python:3.12", "--", "python", "-c", "print(1)"]
    assert podrelay(*first).stdout == podrelay(*first).stdout == b"x\n"
    second = ["submit", "--id", "x", "--image", "python:3.12", "-q", "gpu", *more, "--", "python", "-c", "print(2)"]
    done = podrelay(*second)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "podrelay: job id 'x' is taken: it was submitted before with another command, queue, and is QUEUED on queue "
        "'default'; nothing was published: give another id\n"
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    of_first = {"queue": "default", "status": "QUEUED", "differs": ["command", "queue"]}
    expected = {"kind": "submitted", "job_id": "x", "outcome": "id_taken", **of_first}
    assert told == ([expected] if "--json" in more else [])


def test_a_text_that_is_no_cursor_is_bad_input(podrelay: Podrelay) -> None:
    done = podrelay("logs", podrelay.submit(), "--cursor", "yesterday")
    assert done.returncode == 2
    assert b"--cursor: 'yesterday' is no cursor" in done.stderr


def test_flags_win_over_the_file_and_maps_are_merged(podrelay: Podrelay, tmp_path: Path) -> None:
    spec = tmp_path / "job.json"
    spec.write_text('{"image": "a", "name": "n", "labels": {"x": "1", "y": "1"},\t"env": {"A": "file", "B": "file"}}')
    words = ["-f", str(spec), "--image", "b", "-l", "y=2", "-e", "B=flag", "--env-secret", "C=db/password"]
    job_id = podrelay("submit", *words, "--json", "--", "echo", "-n", "hi").stdout
    shown = podrelay("status", "--json", json.loads(job_id)["job_id"])
    record = json.loads(shown.stdout)
    assert (record["image"], record["name"], record["status"]) == ("b", "n", "QUEUED")

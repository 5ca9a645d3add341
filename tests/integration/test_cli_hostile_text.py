"""What others wrote commands no terminal: neither in our own words, wherever they go, nor in a log on a terminal."""

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator

import pytest

from dispatcher.status import FailureReason, Status
from tests.support.podrelay_process import PlayedWorker, Podrelay

#: Clipboard, title, colour by C1, carriage return, bell, another direction.
HOSTILE = "x\x1b]52;c;ZXZpbA==\x07\x1b]0;t\x1b\\\x9b31m\r\x08\x7f\u202eödd"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: What we write to a terminal ourselves: colours, the line of progress.
OURS = re.compile("\x1b\\[[0-9;]*m|\r\x1b\\[2K|\r(?=\n)")


@pytest.fixture
def ended_job(podrelay: Podrelay, played_worker: PlayedWorker) -> str:
    """A job of which everything was told in hostile words."""
    going_on = podrelay.submit(id="goes-on")
    job_id = podrelay.submit(id="odd")
    played_worker.live(name=HOSTILE, blind=HOSTILE, version=HOSTILE, namespaces=[HOSTILE], slow={"count": HOSTILE})
    fence = played_worker.take(job_id)
    played_worker.move(job_id, fence, Status.STARTING, pod=HOSTILE, node=HOSTILE, detail=HOSTILE)
    played_worker.tell(job_id, fence, f"{HOSTILE}\npodrelay: SUCCEEDED")
    played_worker.log(job_id, fence, b"\x1b[31mred \x1b]0;t\x07 10%\r20%\n")
    said = {"message": f"{HOSTILE}\nsecond", "return_value": HOSTILE, "log_url": HOSTILE}
    played_worker.end(job_id, fence, Status.FAILED, FailureReason.EXIT_CODE, exit_code=7, **said)
    played_worker.move(going_on, played_worker.take(going_on), Status.STARTING, detail=HOSTILE)
    return job_id


def commands(job_id: str) -> Iterator[list[str]]:
    yield ["list"]
    yield ["status", job_id]
    yield ["workers"]
    yield ["workers", "--check"]
    yield ["cancel", job_id]


def on_terminal(podrelay: Podrelay, *words: str) -> str:
    """Run the command on a terminal of its own; returns all that it was sent."""
    ours, theirs = pty.openpty()
    shown = b""
    with podrelay.start(*words, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        while True:
            try:
                portion = os.read(ours, 65536)
            except OSError:  # Linux' way to say that nobody has it open any more
                break
            if not portion:
                break
            shown += portion
        process.wait(10)
    os.close(ours)
    return shown.decode()


def test_no_control_characters_of_others_are_in_our_words(podrelay: Podrelay, ended_job: str) -> None:
    for words in commands(ended_job):
        done = podrelay(*words)
        piped = (done.stdout + done.stderr).decode()
        assert "x\\x1b]52;c;" in piped or words[0] == "cancel", words
        assert not CONTROL.search(piped), words
        assert not CONTROL.search(OURS.sub("", on_terminal(podrelay, *words))), words


def test_a_followed_job_is_told_in_visible_words_and_its_log_is_piped_as_it_is(
    podrelay: Podrelay, ended_job: str
) -> None:
    done = podrelay("logs", "-f", ended_job)
    assert done.returncode == 7
    assert done.stdout == b"\x1b[31mred \x1b]0;t\x07 10%\r20%\n"
    told = done.stderr.decode()
    assert told.count("x\\x1b]52;c;") >= 4
    assert not CONTROL.search(told)
    assert "\npodrelay: SUCCEEDED" not in told, "a second line does not pass for one of ours"
    assert "\n  podrelay: SUCCEEDED" in told


def test_a_terminal_shows_a_logs_colours_and_makes_the_rest_visible(podrelay: Podrelay, ended_job: str) -> None:
    for words in (["logs", ended_job], ["logs", "-f", ended_job]):
        shown = on_terminal(podrelay, *words)
        assert "\x1b[31mred \\x1b]0;t\\x07 10%\r20%\r\n\x1b[0m" in shown
        assert not CONTROL.search(OURS.sub("", shown).replace("10%\r20%", ""))
        raw = on_terminal(podrelay, *words, "--raw")
        assert "\x1b[31mred \x1b]0;t\x07 10%\r20%" in raw
        assert not CONTROL.search(OURS.sub("", raw).replace("\x1b]0;t\x07 10%\r20%", "")), "our own words are as ever"


def test_json_says_it_all_and_has_no_control_characters(podrelay: Podrelay, ended_job: str) -> None:
    for words in (["list"], ["status", ended_job], ["workers"], ["logs", ended_job], ["logs", "-f", ended_job]):
        done = podrelay(*words, "--json")
        lines = done.stdout.decode().splitlines()
        assert not any(CONTROL.search(line) for line in lines)
        assert any(HOSTILE in found or "\x1b]0;t" in found for line in lines for found in texts(json.loads(line)))


def texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from texts(inner)
        case list():
            for inner in value:
                yield from texts(inner)


def test_a_character_that_the_output_cannot_encode_ends_no_command(podrelay: Podrelay, ended_job: str) -> None:
    for words in (["status", ended_job], ["list", "--json"], ["logs", "-f", ended_job]):
        done: subprocess.CompletedProcess[bytes] = podrelay(*words, PYTHONIOENCODING="ascii")
        assert b"Traceback" not in done.stderr
        assert done.returncode in (0, 7)

"""What containers of the pocket cluster run on: logs, environment, mounts, simulations, latencies."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devcluster.kubelet.environment import expand
from devcluster.kubelet.latency import QUICK, parse_latency
from devcluster.runtime.logs import PIECE_BYTES, ContainerOutput, LogFile, LogQuery, parse_since, read_log
from devcluster.runtime.mounts import Mounts
from devcluster.runtime.process import StartError
from devcluster.runtime.simulated import Script, parse_script

_OWN_DIRECTORY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
_CHUNKS = st.lists(st.binary(max_size=60) | st.just(b"x" * (PIECE_BYTES + 7)) | st.just(b"\n"), max_size=12)


async def read_all(log: LogFile, query: LogQuery) -> bytes:
    return b"".join([chunk async for chunk in read_log(log, query)])


@_OWN_DIRECTORY
@given(chunks=_CHUNKS)
def test_a_log_gives_back_the_bytes_of_one_stream(tmp_path: Path, chunks: list[bytes]) -> None:
    written = ContainerOutput()
    path = tmp_path / "log"
    path.unlink(missing_ok=True)

    async def write_and_read() -> bytes:
        log = LogFile(path, written)
        for chunk in chunks:
            log.append("stdout", chunk)
        log.close()
        return await read_all(log, LogQuery(follow=True))

    assert asyncio.run(write_and_read()) == b"".join(chunks)
    assert written.bytes == sum(map(len, chunks))


async def test_a_line_waits_for_its_newline(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", ContainerOutput())
    log.append("stdout", b"half")
    assert await read_all(log, LogQuery()) == b""
    log.append("stdout", b" and whole\n")
    assert await read_all(log, LogQuery()) == b"half and whole\n"
    log.close()


@pytest.mark.parametrize(
    ("lines", "expected"), [(0, b""), (1, b"c\n"), (2, b"b\nc\n"), (3, b"a\nb\nc\n"), (9, b"a\nb\nc\n")]
)
async def test_tail(tmp_path: Path, lines: int, expected: bytes) -> None:
    log = LogFile(tmp_path / "log", ContainerOutput())
    log.append("stdout", b"a\nb\nc\n")
    log.close()
    assert await read_all(log, LogQuery(tail_lines=lines)) == expected


async def test_a_follower_that_lags_a_whole_file_never_sees_it(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", ContainerOutput(), rotate_bytes=100)
    log.append("stdout", b"first\n")
    follower = read_log(log, LogQuery(follow=True))
    assert await anext(follower) == b"first\n"
    for word in (b"second", b"third", b"fourth"):
        log.append("stdout", word.ljust(60, b".") + b"\n")
    log.close()
    rest = b"".join([chunk async for chunk in follower])
    assert b"fourth" in rest
    assert b"second" not in rest


def test_since_is_cut_to_whole_seconds() -> None:
    assert parse_since("2026-11-22T09:07:54.999999Z").isoformat() == "2026-11-22T09:07:54+00:00"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat /w/x", "cat /t/1/x"),
        ("echo a > /w/x; cat </w/y", "echo a > /t/1/x; cat </t/1/y"),
        ("open('/w')", "open('/t/1')"),
        ("X=/w/deep/z", "X=/t/2/z"),
        ("/www /w2 /a/w ${HOME}/w $(pwd)/w", "/www /w2 /a/w ${HOME}/w $(pwd)/w"),
        ("/w/deeper/z", "/t/1/deeper/z"),
        ("/w.json", "/w.json"),
    ],
)
def test_paths_are_rewritten_where_they_are_paths(text: str, expected: str) -> None:
    assert Mounts({"/w": "/t/1", "/w/deep": "/t/2"}).rewrite(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)", "a"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("$A $$", "$A $"), ("$(A)$(A)", "aa"), ("$(", "$(")],
)
def test_references_are_expanded_as_in_kubernetes(text: str, expected: str) -> None:
    assert expand(text, {"A": "a"}) == expected


def test_a_script_is_read_from_its_options() -> None:
    script = parse_script(["--lines=3", "--rate=1.5", "--duration=2", "--ignore-term", "--return-value={}"])
    assert script == Script(lines=3, rate=1.5, duration_s=2.0, ignore_term=True, return_value="{}")


@pytest.mark.parametrize("option", ["--lines=many", "--unknown=1", "word"])
def test_a_script_that_cannot_be_read_does_not_start(option: str) -> None:
    with pytest.raises(StartError, match="simulated container"):
        parse_script([option])


def test_latencies_can_be_named() -> None:
    assert parse_latency("quick") == QUICK
    assert parse_latency("terminated_to_phase=0,log_eof_s=1").log_eof_s == 1.0
    with pytest.raises(ValueError, match="no latency"):
        parse_latency("nothing=1")

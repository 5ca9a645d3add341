"""The command's process: Ctrl-C while it starts, arguments that are no text, outputs that are closed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.podrelay_process import PODRELAY, Podrelay, environment

#: Runs the command; Ctrl-C is pressed when a module of this name is about to be imported.
_INTERRUPTED = """
import os, signal, sys

awaited = sys.argv[1]

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == awaited:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
        return None

sys.meta_path.insert(0, Finder())
from dispatcher.cli import main
sys.argv[:] = ["podrelay", *sys.argv[2:]]
main()
"""


#: Whatever runs the tests may ignore Ctrl-C.
_HEARD = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("dispatcher.cli.exits", ["list"]),
        ("typer", ["--help"]),
        ("dispatcher.cli.app", ["--help"]),
        ("pydantic", ["list"]),
        ("redis", ["list"]),
        ("dispatcher.client", ["status", "x"]),
        ("yaml", ["submit", "-f", "job.yaml"]),
        ("dispatcher.cli.follow", ["submit", "-f", "job.yaml", "--follow"]),
        ("devcluster", ["dev"]),
    ],
)
def test_ctrl_c_while_the_command_starts_ends_it_with_130_and_without_a_word(
    podrelay: Podrelay, tmp_path: Path, module: str, words: list[str]
) -> None:
    (tmp_path / "job.yaml").write_text("image: a\n")
    done = subprocess.run(
        [sys.executable, "-c", _HEARD + _INTERRUPTED, module, *words],
        env=environment(podrelay.redis_url, PYTHONPATH=str(Path.cwd())),
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_ctrl_c_that_the_shell_had_ignored_stays_ignored(podrelay: Podrelay) -> None:
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", _INTERRUPTED, "pydantic", "list"],
        env=environment(podrelay.redis_url),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", [[b"status", b"a\xff"], [b"submit", b"--image", b"a\xc3", b"--name", b"x"]])
def test_an_argument_that_is_no_utf_8_is_bad_input(podrelay: Podrelay, words: list[bytes]) -> None:
    done = subprocess.run(
        [*PODRELAY, *words], env=environment(podrelay.redis_url), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.decode().startswith("podrelay: argument ")
    assert "not UTF-8: a\\x" in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_closed_outputs_end_no_command(podrelay: Podrelay) -> None:
    for closed in (">&-", "2>&-", ">&- 2>&-", "<&-"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *PODRELAY, "list"],
            env=environment(podrelay.redis_url),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b""), closed

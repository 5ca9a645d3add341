"""The documentation's examples do what they say, run one after another as a reader would, against `podrelay dev`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devcluster.local.processes import Processes
from dispatcher.spec import parse_spec
from tests.docs.pages import ROOT, blocks, page, section

YAML = [(name, text) for name in ("docs/quickstart.md", "docs/spec.md") for text in blocks(page(name), "yaml")]


@pytest.mark.parametrize(("name", "text"), YAML)
def test_the_specs_in_yaml_are_specs(name: str, text: str) -> None:
    parse_spec(yaml.safe_load(text), name)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Reader"]:
    from devcluster.local.stack import start_local_stack

    said: list[str] = []
    with Processes(lambda name, line: said.append(f"{name}: {line}")) as processes:
        stack = start_local_stack(processes, redis_url=None, kubeconfig=None)
        yield Reader(tmp_path_factory.mktemp("reader"), stack.redis_url)


class Reader:
    """Somebody who types what the page says, with `podrelay` and `redis-cli` on their PATH."""

    def __init__(self, home: Path, redis_url: str) -> None:
        self.home = home
        tools = home / "bin"
        tools.mkdir()
        self._tool(tools / "podrelay", "from dispatcher.cli import main; main()")
        self._tool(
            tools / "redis-cli",
            "import redis, sys; assert sys.argv[1] == '-u'; "
            "print(redis.Redis.from_url(sys.argv[2]).execute_command(*sys.argv[3:]))",
        )
        own = {name: value for name, value in os.environ.items() if not name.startswith("PODRELAY_")}
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        self.env = {**own, "PATH": path, "PODRELAY_REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}

    def _tool(self, path: Path, program: str) -> None:
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}" "$@"\n')
        path.chmod(0o755)

    def types(self, text: str) -> str:
        """Run a block of shell; returns what it printed. Every command of it must succeed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.home,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def test_the_quickstart(reader: Reader) -> None:
    text = page("docs/quickstart.md")
    (reader.home / "job.yaml").write_text(blocks(text, "yaml")[0])
    submit, look = blocks(section(text, "## Submit, follow, look"), "sh")
    assert reader.types(submit) == "hello\n"
    looked = reader.types(look)
    assert "hello\n" in looked
    assert "SUCCEEDED" in looked
    (file,) = blocks(section(text, "## A spec in a file"), "sh")
    assert reader.types(file) == "north\nsouth\n"
    (key,) = blocks(section(text, "## Once, even when asked twice"), "sh")
    assert reader.types(key) == "north\nnorth\n", "the second one shows the first one's log"
    (script,) = blocks(section(text, "## In a script"), "sh")
    assert '"kind": "ended"' in reader.types(script)


def test_a_message_written_by_hand_is_a_job(reader: Reader) -> None:
    (text,) = blocks(section(page("docs/messages.md"), "# Submitting from any language"), "sh")
    before, _, follow = text.rpartition("podrelay logs")
    reader.types(before)
    # The worker makes the record; a reader who is quicker than that asks again.
    waited = f"until podrelay status by-hand-1 >/dev/null 2>&1; do :; done; podrelay logs{follow}"
    assert reader.types(waited) == "hello\n"


def test_the_readme_s_python(reader: Reader) -> None:
    (text,) = blocks(section(page("README.md"), "## From a service"), "python")
    done = subprocess.run(
        [sys.executable, "-c", text], env=reader.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("SUCCEEDED None"), done.stderr


def test_the_readme_s_submit(reader: Reader) -> None:
    submit = blocks(section(page("README.md"), "## On a laptop"), "sh")[1]
    assert reader.types(submit) == "hello\n"

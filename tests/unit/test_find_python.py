"""How `make` finds a Python, and what it says where there is none."""

import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

RUNS = "exit 0"
TOO_OLD = "echo is 3.10.13 >&2; exit 1"
NO_VENV = "echo has no ensurepip: Debian >&2; exit 1"


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    (tmp_path / "bin with spaces").mkdir()
    return tmp_path / "bin with spaces"


def put(directory: Path, name: str, script: str) -> str:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def find(directory: Path, given: str = "") -> "subprocess.CompletedProcess[str]":
    command = ["/bin/sh", str(ROOT / ".ci" / "find_python.sh"), given]
    return subprocess.run(command, env={"PATH": str(directory)}, capture_output=True, text=True, check=False)


def test_the_first_that_can_is_taken(bin_directory: Path) -> None:
    put(bin_directory, "python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127")
    put(bin_directory, "python3.12", NO_VENV)
    able = put(bin_directory, "python3.13", RUNS)
    put(bin_directory, "python3", RUNS)
    assert find(bin_directory).stdout == f"{able}\n"


def test_the_one_that_is_given_is_taken_or_none(bin_directory: Path) -> None:
    put(bin_directory, "python3.11", RUNS)
    other = put(bin_directory, "python3.12", RUNS)
    old = put(bin_directory, "python3", TOO_OLD)
    assert find(bin_directory, "python3.12").stdout == f"{other}\n"
    assert find(bin_directory, other).stdout == f"{other}\n"
    refused = find(bin_directory, "python3")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"(python3 was asked for; {old} is 3.10.13)" in refused.stderr


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (TOO_OLD, "is 3.10.13"),
        (NO_VENV, "has no ensurepip: Debian"),
        ("echo one >&2; echo two >&2; exit 1", "one): install one"),
    ],
)
def test_where_none_can_one_line_says_why(bin_directory: Path, script: str, told: str) -> None:
    path = put(bin_directory, "python3", script)
    refused = find(bin_directory)
    assert refused.returncode == 1
    assert refused.stderr.startswith("make: no Python 3.11 or newer that can make an environment (" + path)
    assert told in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_without_any_one_line_says_so(bin_directory: Path) -> None:
    told = "make: no Python 3.11 or newer that can make an environment: install one, or say where: make PYTHON=…\n"
    assert find(bin_directory).stderr == told

"""`podrelay worker`: become a worker."""

import importlib.util
import os
import sys

import typer

from dispatcher.cli import session
from dispatcher.cli.exits import ExitCode


def worker(context: typer.Context) -> None:
    """Start a worker.

    In this process' place; options go to `python -m worker`.
    """
    need("celery", "aiohttp", extra="worker")
    os.execv(sys.executable, [sys.executable, "-m", "worker", *context.args])


def need(*modules: str, extra: str) -> None:
    """End the command where a module is missing, and say what to install."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        session.fail(f"{', '.join(missing)} not installed: pip install 'podrelay[{extra}]'", ExitCode.BAD_INPUT)

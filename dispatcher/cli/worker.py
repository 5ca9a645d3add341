"""`podrelay worker`: become a worker."""

import os
import sys

import typer

from dispatcher.cli import session


def worker(context: typer.Context) -> None:
    """Start a worker.

    In this process' place; options go to `python -m worker`.
    """
    if context.args != ["--version"]:  # which needs nothing of what a worker does
        session.need("celery", "aiohttp", extra="worker")
    os.execv(sys.executable, [sys.executable, "-m", "worker", *context.args])

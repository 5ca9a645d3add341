"""`podrelay dev`: everything on this machine, in the foreground."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli import session
from dispatcher.cli.exits import ExitCode
from dispatcher.cli.worker import need

if TYPE_CHECKING:
    from dispatcher.cli.local import LocalStack
    from dispatcher.cli.processes import Processes


def dev(
    quiet: Annotated[bool, typer.Option("--quiet", help="Leave out what the cluster and the worker say.")] = False,
) -> None:
    """Run Redis, a pocket cluster and a worker until Ctrl-C.

    PODRELAY_REDIS_URL and KUBECONFIG select a Redis and a cluster that are there already. The pocket cluster runs
    containers as plain processes of yours: nothing is isolated, and few images exist in it.
    """
    need("celery", "aiohttp", extra="worker")
    from dispatcher.cli.processes import ChildFailedError, Processes, ended_by_signals, hear_no_more_signals

    def sink(name: str, line: str) -> None:
        if not quiet:
            print(f"{name:<7} | {line}", file=sys.stderr, flush=True)

    with session.told():
        session.settings()
        try:
            with ended_by_signals(), Processes(sink) as processes:
                try:
                    _run(processes)
                except KeyboardInterrupt:
                    hear_no_more_signals()
                    session.complain("ending everything that was started here")
        except ChildFailedError as error:
            # What it said last stands above already, unless nothing was to be shown.
            session.fail(str(error) if quiet else str(error).partition(";")[0], ExitCode.NO)
    raise typer.Exit(ExitCode.INTERRUPTED)


def _run(processes: "Processes") -> None:
    from dispatcher.cli.local import start_local_stack
    from dispatcher.cli.processes import ChildFailedError

    redis_url, kubeconfig = session.redis_url_given(), os.environ.get("KUBECONFIG")
    stack = start_local_stack(processes, redis_url=redis_url, kubeconfig=kubeconfig)
    print(environment(stack), flush=True)
    ended = stack.wait_for_an_end()
    raise ChildFailedError(ended.last_words(f"ended with code {ended.process.returncode}"))


def environment(stack: "LocalStack") -> str:
    """The lines to paste into another terminal: what was started here; the rest is there already."""
    from dispatcher.settings import mask_url

    redis = f"embedded ({stack.redis_binary}), gone at the end" if stack.redis_binary else mask_url(stack.redis_url)
    cluster = f"the pocket cluster at {stack.cluster_url}" if stack.cluster_url else stack.kubeconfig
    lines = [f"# Redis: {redis}", f"# cluster: {cluster}", "# Ctrl-C ends everything that was started here."]
    if stack.redis_binary:
        lines.append(f"export PODRELAY_REDIS_URL={stack.redis_url}")
    if stack.cluster_url:
        lines.append(f"export KUBECONFIG={stack.kubeconfig}   # for kubectl: who submits jobs needs none")
    return "\n".join([*lines, "# Try: podrelay submit --image python:3.12 --follow -- python -c 'print(\"hello\")'"])

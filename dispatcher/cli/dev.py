"""`podrelay dev`: everything on this machine, in the foreground."""

import os
from typing import Annotated

import typer

from dispatcher.cli import output, process, session
from dispatcher.cli.exits import ExitCode


def dev(
    quiet: Annotated[bool, typer.Option("--quiet", help="Leave out what the cluster and the worker say.")] = False,
) -> None:
    """Run Redis, a pocket cluster and a worker until Ctrl-C.

    PODRELAY_REDIS_URL and KUBECONFIG select a Redis and a cluster that are there already. The pocket cluster runs
    containers as plain processes of yours: nothing is isolated, and few images exist in it.
    """
    session.need("celery", "aiohttp", extra="worker")
    from devcluster.local.stack import ChildFailedError, LocalStack, run_local_stack

    def sink(name: str, line: str) -> None:
        if not quiet:
            output.pass_on(name, line)

    def show(stack: LocalStack) -> None:
        text = environment(
            redis_url=stack.redis_url,
            redis_binary=stack.redis_binary,
            kubeconfig=stack.kubeconfig,
            cluster_url=stack.cluster_url,
        )
        for line in text.split("\n"):
            output.write_line(line)

    with session.reported_errors():
        session.settings()
        process.interruptible()
        try:
            run_local_stack(
                sink,
                redis_url=session.redis_url_given(),
                kubeconfig=os.environ.get("KUBECONFIG"),
                on_ready=show,
                on_interrupt=lambda: session.complain("ending everything that was started here"),
            )
        except ChildFailedError as error:
            # What it said last stands above already, unless nothing was to be shown.
            session.fail(str(error) if quiet else str(error).partition(";")[0], ExitCode.NO)
    raise typer.Exit(ExitCode.INTERRUPTED)


def environment(*, redis_url: str, redis_binary: str | None, kubeconfig: str, cluster_url: str | None) -> str:
    """Write the lines to paste into another terminal.

    They name what was started here. A Redis without a binary and a cluster without a URL were there already.
    """
    from dispatcher.redis_url import mask_url

    lines = [
        f"# Redis: {f'embedded ({redis_binary}), gone at the end' if redis_binary else mask_url(redis_url)}",
        f"# cluster: {f'the pocket cluster at {cluster_url}' if cluster_url else kubeconfig}",
        "# Ctrl-C ends everything that was started here.",
    ]
    if redis_binary:
        lines.append(f"export PODRELAY_REDIS_URL={redis_url}")
    if cluster_url:
        lines.append(f"export KUBECONFIG={kubeconfig}   # for kubectl: who submits jobs needs none")
    return "\n".join([*lines, "# Try: podrelay submit --image python:3.12 --follow -- python -c 'print(\"hello\")'"])

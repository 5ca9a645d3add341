"""`podrelay dev`: everything on this machine, in the foreground."""

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dispatcher.cli import session
from dispatcher.cli.exits import ExitCode
from dispatcher.cli.worker import need

if TYPE_CHECKING:
    from dispatcher.cli.local import LocalStack


def dev(
    quiet: Annotated[bool, typer.Option("--quiet", help="Leave out what the cluster and the worker say.")] = False,
) -> None:
    """Run Redis, a pocket cluster and a worker until Ctrl-C.

    PODRELAY_REDIS_URL and KUBECONFIG select a Redis and a cluster that are there already. The pocket cluster runs
    containers as plain processes of yours: nothing is isolated, and few images exist in it.
    """
    need("celery", "kubernetes", "aiohttp", extra="worker")
    from dispatcher.cli.child import ChildFailedError
    from dispatcher.cli.local import local_stack

    def sink(name: str, line: str) -> None:
        if not quiet:
            print(f"{name:<7} | {line}", file=sys.stderr, flush=True)

    signal.signal(signal.SIGTERM, _end)
    with session.told():
        session.settings()
        given = session.redis_url_given()
        try:
            with local_stack(redis_url=given, kubeconfig=os.environ.get("KUBECONFIG"), sink=sink) as stack:
                print(environment(stack), flush=True)
                ended = _wait(stack)
        except ChildFailedError as error:
            session.fail(str(error), ExitCode.NO)
    if ended:
        session.fail(f"the {ended} ended; ended everything", ExitCode.NO)
    raise typer.Exit(ExitCode.INTERRUPTED)


def _wait(stack: "LocalStack") -> str | None:
    """Wait for Ctrl-C (None), or for a process that ends by itself (its name)."""
    try:
        return stack.wait_for_an_end()
    except KeyboardInterrupt:
        # A second Ctrl-C must not keep the rest from being ended; each step of that has a limit.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        session.complain("ending the worker, the cluster and Redis")
        return None


def _end(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def environment(stack: "LocalStack") -> str:
    """The lines to paste into another terminal."""
    from dispatcher.settings import mask_url

    redis = f"{stack.redis_binary} (empty, gone at the end)" if stack.redis_binary else "yours"
    cluster = f"the pocket cluster at {stack.cluster_url}" if stack.cluster_url else "yours"
    lines = [
        f"# Redis: {redis}; cluster: {cluster}. Ctrl-C ends everything that was started here.",
        f"export PODRELAY_REDIS_URL={mask_url(stack.redis_url)}",
        f"export KUBECONFIG={stack.kubeconfig}   # for kubectl; callers of podrelay need none",
        "# then, for example:",
        "#   podrelay submit --image python:3.12 --follow -- python -c 'print(\"hello\")'",
    ]
    return "\n".join(lines)

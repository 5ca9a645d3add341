"""The local stack: Redis, a cluster and a worker on this machine, for `podrelay dev` and the demo.

Redis is embedded unless a URL is given, the cluster is the pocket one unless a kubeconfig is. Everything that was
started ends with the context, in the order that lets each finish, and also when this process is killed.
"""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dispatcher.cli.child import Child, ChildFailedError, Sink
from dispatcher.cli.lifeline import Lifeline

READY_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class LocalStack:
    """What runs. ``redis_binary`` and ``cluster_url`` are None for what was there before."""

    redis_url: str
    kubeconfig: str
    redis_binary: str | None
    cluster_url: str | None
    children: tuple[Child, ...]

    def wait_for_an_end(self) -> str:
        """Block until one of the processes ends, which none should; returns its name."""
        first: list[str] = []
        over = threading.Event()
        for child in self.children:
            threading.Thread(target=_report_end, args=(child, first, over), daemon=True).start()
        over.wait()
        return first[0]


def _report_end(child: Child, first: list[str], over: threading.Event) -> None:
    child.process.wait()
    first.append(child.name)
    over.set()


@contextmanager
def local_stack(
    *, redis_url: str | None, kubeconfig: str | None, sink: Sink, worker_env: Mapping[str, str] | None = None
) -> Iterator[LocalStack]:
    """Start what is not given, and a worker; end all of it.

    Raises:
        ChildFailedError: something did not start; what had started is ended.
    """
    directory = tempfile.mkdtemp(prefix="podrelay-local-")
    with ExitStack() as exits:
        exits.callback(shutil.rmtree, directory, ignore_errors=True)
        starter = _Starter(exits, exits.enter_context(Lifeline(directory)), sink)
        binary = cluster = None
        if redis_url is None:
            redis_url, binary = starter.redis()
        if kubeconfig is None:
            kubeconfig = str(Path(directory) / "kubeconfig")
            cluster = starter.child("cluster", ["devcluster", "--kubeconfig", kubeconfig], os.environ, "ready ")
            cluster_url = cluster.wait_until_ready(READY_WITHIN_S).rpartition(" ")[2]
        env = {**os.environ, **(worker_env or {}), "PODRELAY_REDIS_URL": redis_url, "KUBECONFIG": kubeconfig}
        worker = starter.child("worker", ["worker"], env, "worker ready")
        worker.wait_until_ready(READY_WITHIN_S)
        children = (worker, cluster) if cluster else (worker,)
        yield LocalStack(redis_url, kubeconfig, binary, cluster_url if cluster else None, children)


class _Starter:
    """Starts processes so that each ends with the stack, or with the lifeline."""

    def __init__(self, exits: ExitStack, lifeline: Lifeline, sink: Sink) -> None:
        self._exits = exits
        self._lifeline = lifeline
        self._sink = sink

    def child(self, name: str, module: list[str], env: Mapping[str, str], ready: str) -> Child:
        child = Child(name, module, env=env, sink=self._sink, ready=ready)
        self._lifeline.hold(child.process.pid)
        self._exits.callback(self._end, child)
        return child

    def _end(self, child: Child) -> None:
        child.stop()
        self._lifeline.release(child.process.pid)

    def redis(self) -> tuple[str, str]:
        """Start an embedded server; returns its URL and binary."""
        from devcluster.redis_server import RedisServer

        try:
            server = RedisServer()
            with _deaf_to_interrupts():
                self._exits.enter_context(server)
        except RuntimeError as error:
            raise ChildFailedError(str(error)) from error
        if server.process is not None:
            self._lifeline.hold(server.process.pid)
        return server.url, server.binary


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started meanwhile inherits a blocked SIGINT: Ctrl-C must not end Redis before the worker has let go of
    its jobs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

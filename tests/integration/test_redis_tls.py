"""``rediss://`` is verified on every connection of every process: nobody else is sent one byte of a password."""

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kombu import Connection, transport
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES

from dispatcher.aio import AsyncDispatcher
from dispatcher.client import Dispatcher
from dispatcher.errors import RedisUnavailableError
from dispatcher.settings import ClientSettings
from dispatcher.spec import parse_spec
from dispatcher.status import Status
from tests.support.certificates import Authority
from tests.support.installation import QUICK, Installation, clean_environment, running_installation
from tests.support.podrelay_process import PODRELAY
from tests.support.tls_door import TlsDoor

MINE = Authority("mine")
NOT_THE_SERVER = {
    "of a foreign authority": Authority("foreign").server_context(),
    "for another name": MINE.server_context("redis.example.com"),
}
HOOK = "from airflow_bridge.hook import PodRelayHook; print(PodRelayHook().test_connection())"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The variables that name my authority, and a certificate of it for me."""
    me = MINE.client("podrelay")
    for name, pem in {"ca": MINE.pem, "cert": me.certificate, "key": me.key}.items():
        (tmp_path / f"{name}.pem").write_bytes(pem)
    return {f"PODRELAY_REDIS_{name.upper()}_FILE": str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}


@pytest.fixture(params=NOT_THE_SERVER)
def imposter(request: pytest.FixtureRequest) -> Iterator[TlsDoor]:
    """A server that is not the one that is meant; its certificate is valid all the same."""
    with TlsDoor(NOT_THE_SERVER[request.param]) as door:
        yield door
        door.wait_for_handshakes(1)
        assert all(door.ends), "somebody has believed it"
        assert door.heard == b""


def settings_for(door: TlsDoor, files: dict[str, str]) -> ClientSettings:
    url = f"rediss://me:walrus@127.0.0.1:{door.port}/0?ssl_ca_certs={files['PODRELAY_REDIS_CA_FILE']}"
    return ClientSettings.from_environment({}, redis_url=url, redis_retries=0)


def test_clients_tell_nobody_else_their_password(imposter: TlsDoor, files: dict[str, str]) -> None:
    with (
        Dispatcher(settings_for(imposter, files)) as client,
        pytest.raises(RedisUnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.ping()


async def test_nor_do_asynchronous_ones(imposter: TlsDoor, files: dict[str, str]) -> None:
    async with AsyncDispatcher(settings_for(imposter, files)) as client:
        with pytest.raises(RedisUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.now()
        with pytest.raises(RedisUnavailableError):
            async for _ in client.follow("j"):
                pass
    imposter.wait_for_handshakes(2)


def test_nor_does_the_queue_s_connection(
    imposter: TlsDoor, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRANSPORT_ALIASES, "redis", "worker.queue.consumer:Transport")
    monkeypatch.setattr(transport, "_transport_cache", {})  # kombu keeps what another test has had it resolve
    endpoint = settings_for(imposter, files).redis
    with Connection("redis://", transport_options={"endpoint": endpoint}) as broker:
        assert broker.as_uri() == f"rediss://me:***@127.0.0.1:{imposter.port}/0"
        with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
            broker.default_channel.client.ping()


def test_nor_do_the_command_and_airflow_s_hook(imposter: TlsDoor, files: dict[str, str]) -> None:
    url = f"rediss://me:walrus@127.0.0.1:{imposter.port}/0"
    env = clean_environment(PODRELAY_REDIS_URL=url, PODRELAY_REDIS_RETRIES="0", **files)
    done = subprocess.run([*PODRELAY, "workers"], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
    fields = {"host": "127.0.0.1", "port": imposter.port, "password": "walrus", "extra": {"tls": True}}
    env["AIRFLOW_CONN_PODRELAY_DEFAULT"] = json.dumps({"conn_type": "podrelay", **fields})
    hook = subprocess.run([sys.executable, "-c", HOOK], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert "(False, " in hook.stdout
    assert "CERTIFICATE_VERIFY_FAILED" in hook.stdout
    assert "walrus" not in done.stderr + hook.stdout + hook.stderr


@contextmanager
def installation_behind_tls(**demands: bool) -> Iterator[tuple[Installation, TlsDoor]]:
    with (
        running_installation() as installation,
        TlsDoor(MINE.server_context(**demands), installation.redis.port) as door,
    ):
        installation.redis_url = f"rediss://127.0.0.1:{door.port}/0"
        yield installation, door


@pytest.mark.parametrize("imposter", NOT_THE_SERVER.values(), ids=NOT_THE_SERVER)
def test_no_connection_of_a_worker_believes_another_server(imposter: ssl.SSLContext, files: dict[str, str]) -> None:
    """The server is replaced under a running worker, so that each of its connections meets the other one."""
    with installation_behind_tls() as (installation, door):
        installation.redis_command("ACL", "SETUSER", "me", "on", ">walrus", "~*", "&*", "+@all")
        installation.redis_url = f"rediss://me:walrus@127.0.0.1:{door.port}/0"
        installation.start_worker(redis_ca_file=files["PODRELAY_REDIS_CA_FILE"], **QUICK)
        genuine = door.context
        assert door.heard.count(b"walrus") >= 4  # lease, control messages, queue and its acknowledgements
        door.play(imposter)
        door.wait_for_handshakes(12)
        assert all(door.ends)
        assert door.heard == b""
        door.play(genuine, installation.redis.port)
        with Dispatcher(ClientSettings.from_environment({}, redis_url=installation.redis.url)) as client:
            client.submit(parse_spec({"id": "j", "image": "simulated:latest", "args": ["--lines=1"]}))
            assert client.result("j", timeout_s=60).status is Status.SUCCEEDED


def test_a_redis_that_asks_for_a_certificate_is_shown_one_by_everybody(files: dict[str, str]) -> None:
    with installation_behind_tls(wants_client=True) as (installation, door):
        installation.start_worker(**{name.removeprefix("PODRELAY_").lower(): path for name, path in files.items()})
        env = clean_environment(PODRELAY_REDIS_URL=installation.redis_url, PODRELAY_REDIS_RETRIES="0", **files)
        command = [*PODRELAY, "submit", "--image", "python:3.12", "--follow", "--", "python", "-c", "print('hello')"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
        assert "hello" in done.stdout
        assert not any(door.ends)
        bare = clean_environment(
            PODRELAY_REDIS_URL=installation.redis_url,
            PODRELAY_REDIS_RETRIES="0",
            PODRELAY_REDIS_CA_FILE=files["PODRELAY_REDIS_CA_FILE"],
        )
        refused = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode == 3
        assert len(refused.stderr.splitlines()) == 1


def test_a_check_that_is_turned_off_is_told_once_in_each_process(
    files: dict[str, str], caplog: pytest.LogCaptureFixture, redis_url: str
) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with TlsDoor(NOT_THE_SERVER["of a foreign authority"], port) as door:
        url = f"rediss://127.0.0.1:{door.port}/0?ssl_cert_reqs=none"
        for _ in range(2):
            with Dispatcher(ClientSettings.from_environment({}, redis_url=url)) as client:
                client.ping()
    (told,) = [record.getMessage() for record in caplog.records if "not verified" in record.getMessage()]
    assert told.startswith(f"Redis at rediss://127.0.0.1:{door.port}/0 is not verified, ssl_cert_reqs=none: ")

"""The connection, and what Airflow's provider manager makes of our metadata."""

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from airflow.providers_manager import ProvidersManager
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.definitions.connection import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from airflow_bridge.connection_fields import read_connection
from airflow_bridge.hook import PodRelayHook
from airflow_bridge.provider import get_provider_info
from devcluster.local.redis_server import RedisServer, free_port
from dispatcher.errors import SettingsError
from dispatcher.settings import ClientSettings
from tests.support.scripted_worker import ScriptedWorker


def set_connection(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    extra = fields.pop("extra", {})
    text = json.dumps({"conn_type": "podrelay", **fields, "extra": json.dumps(extra)})
    monkeypatch.setenv("AIRFLOW_CONN_PODRELAY_DEFAULT", text)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "redis://127.0.0.1:6379/0"),
        ({"host": "redis", "port": 6380, "schema": "3"}, "redis://redis:6380/3"),
        ({"host": "redis", "password": "p@ss/word"}, "redis://:p%40ss%2Fword@redis:6379/0"),
        ({"host": "redis", "login": "me", "password": "x"}, "redis://me:x@redis:6379/0"),
        ({"host": "redis", "login": "me"}, "redis://me@redis:6379/0"),
        ({"host": "::1", "port": 1}, "redis://[::1]:1/0"),
        ({"host": "[::1]"}, "redis://[::1]:6379/0"),
        ({"host": "/run/redis.sock", "schema": "2", "password": "x"}, "unix://:x@/run/redis.sock?db=2"),
        ({"host": "redis", "extra": '{"tls": true}'}, "rediss://redis:6379/0"),
        ({"host": "redis", "extra": '{"tls": "false", "queue": "", "namespace": null}'}, "redis://redis:6379/0"),
        ({"host": "redis", "extra": '{"tls": "1", "ssl_ca_certs": "/ca"}'}, "rediss://redis:6379/0?ssl_ca_certs=/ca"),
        (
            {"host": "redis", "extra": '{"tls": true, "ssl_cert_reqs": "CERT_NONE"}'},
            "rediss://redis:6379/0?ssl_cert_reqs=none",
        ),
        ({"host": "redis", "extra": '{"redis_url": "redis://elsewhere:1/2"}'}, "redis://elsewhere:1/2"),
        ({"extra": '{"redis_url": "unix:///run/redis.sock", "tls": false}'}, "unix:///run/redis.sock"),
    ],
)
def test_a_connection_is_a_redis_url(fields: dict[str, Any], url: str) -> None:
    assert read_connection(Connection(conn_id="c", conn_type="podrelay", **fields)).address.url == url


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"conn_type": "kubernetes"}, "it is of type kubernetes, not podrelay"),
        ({"conn_type": "http", "host": "redis"}, "it is of type http, not podrelay"),
        ({"conn_type": None}, "it is of type (none), not podrelay"),
        (
            {"host": "redis://:walrus@redis:1/0"},
            "host: is a URL: write the name alone, or the whole URL into the extra",
        ),
        ({"host": "redis:6379"}, "host: write the name alone: the port has a field of its own"),
        ({"host": "redis/0"}, "host: the host is no host name"),
        ({"host": " redis"}, "host: the host is no host name"),
        ({"host": "redis,other"}, "host: the host is no host name"),
        ({"host": "me@redis"}, "host: the host is no host name"),
        ({"host": "/run/redis.sock", "port": 1}, "host: a socket's path has neither a port nor TLS beside it"),
        ({"host": "redis", "port": 0}, "port: the port must be a number from 1 to 65535"),
        ({"host": "redis", "port": 70000}, "port: the port must be"),
        ({"host": "redis", "schema": "abc"}, "schema: the database must be a number, found 'abc'"),
        ({"host": "redis", "schema": "-1"}, "schema: the database must be a number, found '-1'"),
        ({"host": "redis", "password": "walrus\0"}, "a control character"),
        ({"host": "redis", "password": "walrus\n"}, "the user or its password has a control character"),
        ({"host": "redis", "password": "walrus\udc80"}, "a character that is no text"),
        ({"extra": '{"Queue": "gpu"}'}, "extra: no such field 'Queue' (did you mean 'queue'?)"),
        (
            {"extra": '{"redis-url": "redis://:walrus@h"}'},
            "extra: no such field 'redis-url' (did you mean 'redis_url'?)",
        ),
        ({"extra": '{"ssl": true}'}, "extra: no such field 'ssl' (did you mean 'tls'?)"),
        ({"extra": '{"db": 1}'}, "extra: no such field 'db' (did you mean 'schema'?)"),
        ({"extra": '{"queue": "Not A Queue"}'}, "extra queue: "),
        ({"extra": '{"queue": 5}'}, "extra queue: "),
        ({"extra": '{"namespace": "Default"}'}, "extra namespace: must be lower-case letters, digits and dashes"),
        ({"extra": '{"namespace": ["a"]}'}, "extra namespace: must be text"),
        ({"extra": '{"tls": "maybe"}'}, "extra tls: must be true or false"),
        ({"extra": '{"ssl_ca_certs": "/ca"}'}, "extra ssl_ca_certs: needs tls"),
        ({"extra": '{"tls": true, "ssl_keyfile": "/k"}'}, "option ssl_keyfile needs ssl_certfile"),
        ({"extra": '{"redis_url": "redis://:walrus@h/abc"}'}, "extra redis_url: the database must be a number"),
        ({"extra": '{"redis_url": "redis://:walrus@h", "tls": true}'}, "extra tls: redis_url replaces it"),
        (
            {"extra": '{"redis_url": "rediss://:walrus@h", "ssl_ca_certs": "/ca"}'},
            "extra ssl_ca_certs: redis_url replaces it: write it as an option of the URL",
        ),
        ({"extra": '["walrus"]'}, "extra: must be a JSON object"),
        ({"extra": '{"walrus'}, "extra: must be a JSON object"),
        ({"extra": '{"tls": true, "ssl_ca_certs": "/none"}'}, "extra ssl_ca_certs: /none: No such file or directory"),
    ],
)
def test_what_a_connection_cannot_mean_is_told_by_its_field(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], why: str
) -> None:
    made = Connection(**{"conn_id": "podrelay_default", "conn_type": "podrelay", **fields})
    monkeypatch.setattr(PodRelayHook, "get_connection", lambda *_: made)
    with pytest.raises(SettingsError) as raised:
        PodRelayHook().resolve()
    assert str(raised.value).startswith("connection 'podrelay_default': ")
    assert why in str(raised.value)
    assert "walrus" not in str(raised.value)


def test_a_connection_says_queue_namespace_and_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, host="redis", extra={"queue": "b", "namespace": "etl", "deployment": "prod"})
    resolved = PodRelayHook().resolve()
    assert resolved.defaults == {"queue": "b", "namespace": "etl"}
    assert resolved.deployment == "prod"


def test_the_deployment_can_be_said_in_airflows_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, host="redis")
    assert PodRelayHook().resolve().deployment == "airflow"
    monkeypatch.setenv("AIRFLOW__PODRELAY__DEPLOYMENT", "staging")
    assert PodRelayHook().resolve().deployment == "staging"


def test_without_a_connection_the_environment_says_where_redis_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODRELAY_REDIS_URL", "redis://from-environment:1/0")
    assert PodRelayHook().resolve().settings.redis.shown == "redis://from-environment:1/0"


def test_the_environment_stands_in_for_the_default_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is misspelled would run the task somewhere else."""
    monkeypatch.setenv("PODRELAY_REDIS_URL", "redis://from-environment:1/0")
    with pytest.raises(AirflowNotFoundException, match=r"'prod_clustr' is not defined: .*'podrelay_default' only"):
        PodRelayHook("prod_clustr").resolve()


async def test_nor_does_it_in_the_triggerer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODRELAY_REDIS_URL", "redis://from-environment:1/0")
    with pytest.raises(AirflowNotFoundException, match="'prod_clustr' is not defined"):
        await PodRelayHook("prod_clustr").aresolve()


def test_a_file_says_it_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PODRELAY_REDIS_URL", raising=False)
    (tmp_path / "url").write_text("redis://:x@from-file:1/0\n")
    monkeypatch.setenv("PODRELAY_REDIS_URL_FILE", str(tmp_path / "url"))
    assert PodRelayHook().resolve().settings.redis.shown == "redis://:***@from-file:1/0"
    set_connection(monkeypatch, host="from-connection")
    assert PodRelayHook().resolve().settings.redis.shown == "redis://from-connection:6379/0"


def test_without_either_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PODRELAY_REDIS_URL", raising=False)
    with pytest.raises(
        AirflowNotFoundException, match=r"'podrelay_default' is not defined: add one .* or set PODRELAY"
    ):
        PodRelayHook().resolve()


def test_the_test_button_names_the_live_workers(connection: str) -> None:
    assert PodRelayHook().test_connection() == (
        True,
        f"Redis at {connection} answers; queue 'default' has no live worker: tasks will wait until one is there",
    )
    with ScriptedWorker(connection):
        is_fine, told = PodRelayHook().test_connection()
    assert is_fine
    assert "is served by 1 worker(s): scripted-worker" in told


def test_the_test_button_says_that_no_worker_serves_the_connection_s_namespace(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedWorker(connection):
        set_connection(monkeypatch, extra={"redis_url": connection, "namespace": "etl"})
        assert PodRelayHook().test_connection()[0]
        set_connection(monkeypatch, extra={"redis_url": connection, "namespace": "elt"})
        is_fine, told = PodRelayHook().test_connection()
    assert not is_fine
    assert told.endswith("no worker serves namespace 'elt', but etl, team-a")


def test_the_test_button_says_that_redis_may_evict(connection: str, redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            is_fine, told = PodRelayHook().test_connection()
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert is_fine
    assert told.endswith("Redis may evict keys and lose jobs: set maxmemory-policy noeviction (found allkeys-lru)")


def test_the_test_button_says_what_is_wrong_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODRELAY_REDIS_RETRIES", "0")
    set_connection(monkeypatch, host="127.0.0.1", port=free_port(), password="swordfish")
    is_fine, told = PodRelayHook().test_connection()
    assert not is_fine
    assert "cannot be used" in told
    assert "swordfish" not in told


def test_a_setting_that_cannot_be_used_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, host="127.0.0.1", extra={"queue": "Not A Queue"})
    assert PodRelayHook().test_connection()[0] is False


def test_the_password_is_masked_in_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk._shared.secrets_masker import _secrets_masker

    set_connection(monkeypatch, extra={"redis_url": "redis://:a-long-swordfish@redis:1/0"})
    PodRelayHook().resolve()
    assert _secrets_masker().redact("it is a-long-swordfish") == "it is ***"


# The provider


def test_airflow_finds_the_connection_type_with_its_form() -> None:
    hook = ProvidersManagerTaskRuntime().hooks["podrelay"]
    assert hook is not None
    assert (hook.hook_name, hook.connection_id_attribute_name) == ("podrelay", "podrelay_conn_id")
    manager = ProvidersManager()
    fields = {name for name in manager.connection_form_widgets if name.startswith("extra__podrelay__")}
    assert fields == {f"extra__podrelay__{x}" for x in ("queue", "namespace", "deployment", "tls", "redis_url")}
    assert manager.connection_form_widgets["extra__podrelay__redis_url"].is_sensitive
    assert manager.field_behaviours["podrelay"]["relabeling"]["schema"] == "Redis database"


def test_airflow_finds_decorators_and_link() -> None:
    assert {"podrelay", "podrelay_cmd"} <= set(ProvidersManagerTaskRuntime().taskflow_decorators)
    assert "airflow_bridge.links.PodLogLink" in ProvidersManager().extra_links_class_names


def test_everything_that_the_metadata_names_exists() -> None:
    info = get_provider_info()
    paths = [each["class-name"] for each in info["task-decorators"]] + info["extra-links"]
    paths += [each["hook-class-name"] for each in info["connection-types"]]
    modules = [m for kind in ("operators", "hooks", "triggers") for each in info[kind] for m in each["python-modules"]]
    for path in paths:
        assert import_string(path)
    for module in modules:
        assert __import__(module)


def test_the_settings_of_the_environment_hold_beside_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODRELAY_INSTALLATION", "other")
    set_connection(monkeypatch, host="redis")
    settings: ClientSettings = PodRelayHook().resolve().settings
    assert settings.installation == "other"

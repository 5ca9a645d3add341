"""The connection, and what Airflow's provider manager makes of our metadata."""

import json
from typing import Any

import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.definitions.connection import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from airflow_bridge.hook import PodRelayHook, redis_url
from airflow_bridge.provider import get_provider_info
from devcluster.local.redis_server import free_port
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
        ({"host": "redis", "extra": '{"tls": true}'}, "rediss://redis:6379/0"),
        ({"host": "redis", "extra": '{"redis_url": "redis://elsewhere:1/2"}'}, "redis://elsewhere:1/2"),
    ],
)
def test_a_connection_is_a_redis_url(fields: dict[str, Any], url: str) -> None:
    assert redis_url(Connection(conn_id="c", conn_type="podrelay", **fields)) == url


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
    assert PodRelayHook().resolve().settings.redis_url.get_secret_value() == "redis://from-environment:1/0"


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

"""What Kubernetes puts into a pod for the Services beside it is no setting, and no misspelled one, of anybody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_bridge.hook import resolved_from_environment
from dispatcher.client import Dispatcher
from dispatcher.errors import SettingsError
from dispatcher.service_links import is_service_link
from dispatcher.settings import ClientSettings
from worker.settings import WorkerSettings


def links(
    service: str, *, port: int = 6379, protocol: str = "tcp", name: str = "", ip: str = "10.96.7.1"
) -> dict[str, str]:
    """The variables of a Service with one port, as the kubelet makes them (pkg/kubelet/envvars)."""
    prefix = service.upper().replace("-", "_")
    host = f"[{ip}]" if ":" in ip else ip
    url, of_port = f"{protocol}://{host}:{port}", f"{prefix}_PORT_{port}_{protocol.upper()}"
    named = {f"{prefix}_SERVICE_PORT_{name.upper().replace('-', '_')}": str(port)} if name else {}
    return {
        f"{prefix}_SERVICE_HOST": ip,
        f"{prefix}_SERVICE_PORT": str(port),
        f"{prefix}_PORT": url,
        of_port: url,
        f"{of_port}_PROTO": protocol,
        f"{of_port}_PORT": str(port),
        f"{of_port}_ADDR": ip,
        **named,
    }


#: Services that somebody may have beside a worker or an Airflow; the last are named like settings.
SERVICES = ["podrelay", "podrelay-redis", "podrelay-worker", "podrelay-redis-url", "podrelay-service-port"]
SERVICES += [f"podrelay-{name.replace('_', '-')}" for name in WorkerSettings.model_fields]
SERVICES += [s.removesuffix("-port") for s in SERVICES if s.endswith("-port")]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("settings", [ClientSettings, WorkerSettings])
def test_a_service_of_any_name_beside_a_process_changes_none_of_its_settings(
    monkeypatch: pytest.MonkeyPatch, service: str, settings: type[ClientSettings]
) -> None:
    without = settings.from_environment()
    for name, value in links(service, name="metrics-http").items():
        monkeypatch.setenv(name, value)
    assert settings.from_environment() == without


def test_what_is_set_is_read_beside_links_of_nearly_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in links("podrelay-redis-url").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PODRELAY_METRICS_PORT", "9090")
    monkeypatch.setenv("PODRELAY_REDIS_URL", "redis://somewhere")
    settings = WorkerSettings.from_environment()
    assert (settings.metrics_port, settings.redis_url.get_secret_value()) == (9090, "redis://somewhere")


def test_airflow_and_clients_start_beside_such_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in links("podrelay-redis").items():
        monkeypatch.setenv(name, value)
    Dispatcher().close()
    monkeypatch.setenv("PODRELAY_REDIS_URL", "redis://somewhere")
    assert resolved_from_environment() is not None


@given(
    st.from_regex(r"podrelay(-[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?)?", fullmatch=True),
    st.integers(1, 65535),
    st.sampled_from(["tcp", "udp", "sctp"]),
    st.from_regex(r"|[a-z]([-a-z0-9]{0,13}[a-z0-9])?", fullmatch=True),
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
)
def test_every_variable_of_every_service_is_known_as_one(
    service: str, port: int, protocol: str, name: str, ip: str
) -> None:
    for variable, value in links(service, port=port, protocol=protocol, name=name, ip=ip).items():
        assert is_service_link(variable, value), (variable, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PODRELAY_METRIC_PORT", "9090"),
        ("PODRELAY_METRICS_PORT_9090_TCP", "9090"),
        ("PODRELAY_REDIS_SERVICE_HOST", "redis.example"),
        ("PODRELAY_REDIS_SERVICE_PORT", "redis"),
        ("PODRELAY_REDIS_ULR", "tcp://10.0.0.1:6379"),
        ("PODRELAY_PORT", "many"),
    ],
)
def test_what_only_resembles_such_a_variable_is_a_misspelled_setting(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: no such setting"):
        ClientSettings.from_environment({name: value})


def test_a_metrics_port_that_is_neither_a_number_nor_a_link_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODRELAY_METRICS_PORT", "tcp://metrics")
    with pytest.raises(SettingsError, match="PODRELAY_METRICS_PORT: "):
        WorkerSettings.from_environment()

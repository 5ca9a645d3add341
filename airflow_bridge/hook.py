"""The connection type ``podrelay``: where Redis is, and the default queue, namespace and deployment.

The Redis URL is all that Airflow holds. Task and triggerer read it each for itself: it is never in a trigger's
arguments, and its password is masked in logs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from dispatcher.client import Dispatcher, WorkerView
    from dispatcher.redis_url import RedisAddress
    from dispatcher.settings import ClientSettings

DEFAULT_CONNECTION = "podrelay_default"

#: The name of this Airflow in a job's key, where neither the connection nor the configuration has one.
DEFAULT_DEPLOYMENT = "airflow"


@dataclass(frozen=True, slots=True)
class ResolvedConnection:
    """A connection of type ``podrelay``, read and checked."""

    settings: "ClientSettings"
    deployment: str
    namespace: str | None

    @property
    def defaults(self) -> dict[str, str | None]:
        """Return queue and namespace of jobs whose task names none."""
        return {"queue": self.settings.queue, "namespace": self.namespace}


def resolved(connection: "Connection") -> ResolvedConnection:
    """Read and check a connection.

    Raises:
        dispatcher.errors.SettingsError: a value cannot be used.
    """
    from airflow_bridge.connection_fields import read_connection
    from dispatcher.errors import SettingsError
    from dispatcher.redis_endpoint import check_tls_files
    from dispatcher.settings import ClientSettings

    try:
        fields = read_connection(connection)
        if fields.address.tls is not None:
            check_tls_files(fields.address.tls, named=lambda option: f"extra {option}")
    except ValueError as error:
        raise SettingsError(f"connection {connection.conn_id!r}: {error}") from None
    _mask(fields.address)
    settings = ClientSettings.from_environment(redis_url=fields.address.url, queue=fields.queue)
    return ResolvedConnection(settings, fields.deployment or _deployment(), fields.namespace)


def resolved_from_environment() -> ResolvedConnection | None:
    """Read where the environment says that Redis is, for want of a connection; None where it says nothing."""
    import os

    from dispatcher.settings import ClientSettings

    if not any(os.environ.get(name) for name in ("PODRELAY_REDIS_URL", "PODRELAY_REDIS_URL_FILE")):
        return None
    settings = ClientSettings.from_environment()
    _mask(settings.redis.address)
    return ResolvedConnection(settings, _deployment(), None)


def _deployment() -> str:
    from airflow.sdk.configuration import conf

    return str(conf.get("podrelay", "deployment", fallback=DEFAULT_DEPLOYMENT))


def _mask(address: "RedisAddress") -> None:
    """Have Airflow mask what is secret in an address."""
    from airflow.sdk.log import mask_secret

    for secret in (address.password, address.tls and address.tls.key_password):
        if secret:
            mask_secret(secret)


class PodRelayHook(BaseHook):
    """The hook that resolves the connection and opens the client."""

    conn_name_attr = "podrelay_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = "podrelay"
    hook_name = "podrelay"

    def __init__(self, podrelay_conn_id: str = DEFAULT_CONNECTION) -> None:
        super().__init__()
        self.podrelay_conn_id = podrelay_conn_id

    def resolve(self) -> ResolvedConnection:
        """Read the connection; for want of the default one, what the environment says.

        Raises:
            AirflowNotFoundException: there is none.
            dispatcher.errors.SettingsError: it cannot be used.
        """
        try:
            connection = self.get_connection(self.podrelay_conn_id)
        except AirflowNotFoundException:
            return self._without_connection()
        return resolved(connection)

    async def aresolve(self) -> ResolvedConnection:
        """Do as :meth:`resolve`, in an event loop."""
        try:
            connection = await self.aget_connection(self.podrelay_conn_id)
        except AirflowNotFoundException:
            return self._without_connection()
        return resolved(connection)

    def _without_connection(self) -> ResolvedConnection:
        """Take the environment's Redis for the default connection: another id means another one, and was misspelled."""
        what = f"connection {self.podrelay_conn_id!r} is not defined: add one of type podrelay (Redis' address)"
        if self.podrelay_conn_id != DEFAULT_CONNECTION:
            raise AirflowNotFoundException(f"{what}; PODRELAY_REDIS_URL stands in for {DEFAULT_CONNECTION!r} only")
        connection = resolved_from_environment()
        if connection is None:
            raise AirflowNotFoundException(f"{what}, or set PODRELAY_REDIS_URL")
        return connection

    def get_conn(self) -> "Dispatcher":
        """Open the dispatcher's client; the caller closes it."""
        from dispatcher.client import Dispatcher

        return Dispatcher(self.resolve().settings)

    def test_connection(self) -> tuple[bool, str]:
        """Ping Redis and name the live workers: the *test* button of the connection's form."""
        from dispatcher.errors import PodrelayError

        try:
            connection = self.resolve()
            with self.get_conn() as dispatcher:
                dispatcher.ping()
                workers = dispatcher.workers(connection.settings.queue)
                danger = dispatcher.danger()
        except PodrelayError as error:
            return False, str(error)
        is_fine, told = _served([worker for worker in workers if worker.is_alive], connection)
        return is_fine, f"{told}. Beware: {danger}" if danger else told


def _served(alive: "Sequence[WorkerView]", connection: ResolvedConnection) -> tuple[bool, str]:
    """Say whether jobs of this connection would run."""
    at = f"Redis at {connection.settings.masked_redis_url} answers; queue {connection.settings.queue!r}"
    if not alive:
        return True, f"{at} has no live worker: tasks will wait until one is there"
    served = sorted({str(name) for worker in alive for name in _namespaces(worker)})
    if connection.namespace is not None and connection.namespace not in served:
        return (
            False,
            f"{at}: no worker serves namespace {connection.namespace!r}, but {', '.join(served[:10]) or 'none'}",
        )
    return True, f"{at} is served by {len(alive)} worker(s): {', '.join(sorted(x.incarnation for x in alive)[:5])}"


def _namespaces(worker: "WorkerView") -> list[Any]:
    said = worker.info.get("namespaces")
    return said if isinstance(said, list) else []

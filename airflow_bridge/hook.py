"""The connection type ``podrelay``: where Redis is, and the default queue, namespace and deployment.

The Redis URL is all that Airflow holds. Task and triggerer read it each for itself: it is never in a trigger's
arguments, and its password is masked in logs.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from dispatcher.client import Dispatcher
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


def redis_url(connection: "Connection") -> str:
    """Make a connection's Redis URL: ``redis_url`` in extra, or of host, port, login, password and schema.

    ``schema`` is the database's number; ``tls`` in extra makes it ``rediss://``.
    """
    extra = connection.extra_dejson
    if extra.get("redis_url"):
        return str(extra["redis_url"])
    user = quote(connection.login or "", safe="")
    password = f":{quote(connection.password, safe='')}" if connection.password else ""
    account = f"{user}{password}@" if user or password else ""
    scheme = "rediss" if _is_true(extra.get("tls")) else "redis"
    return f"{scheme}://{account}{connection.host or '127.0.0.1'}:{connection.port or 6379}/{connection.schema or 0}"


def _is_true(value: object) -> bool:
    return str(value).strip().lower() in {"true", "1", "yes", "on"}


def resolved(connection: "Connection") -> ResolvedConnection:
    """Read and check a connection.

    Raises:
        dispatcher.errors.SettingsError: a value cannot be used.
    """
    from dispatcher.settings import ClientSettings

    url = redis_url(connection)
    _mask(urlsplit(url).password)
    extra = connection.extra_dejson
    settings = ClientSettings.from_environment(redis_url=url, queue=extra.get("queue") or None)
    return ResolvedConnection(settings, extra.get("deployment") or _deployment(), extra.get("namespace") or None)


def resolved_from_environment() -> ResolvedConnection | None:
    """Read ``PODRELAY_REDIS_URL``, for want of a connection; None where it is not set."""
    import os

    from dispatcher.settings import ClientSettings

    if not os.environ.get("PODRELAY_REDIS_URL"):
        return None
    settings = ClientSettings.from_environment()
    _mask(urlsplit(settings.redis_url.get_secret_value()).password)
    return ResolvedConnection(settings, _deployment(), None)


def _deployment() -> str:
    from airflow.sdk.configuration import conf

    return str(conf.get("podrelay", "deployment", fallback=DEFAULT_DEPLOYMENT))


def _mask(password: str | None) -> None:
    if password:
        from airflow.sdk.log import mask_secret

        mask_secret(password)


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
        """Read the connection, or ``PODRELAY_REDIS_URL`` where there is none.

        Raises:
            AirflowNotFoundException: there is none, nor ``PODRELAY_REDIS_URL``.
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
        connection = resolved_from_environment()
        if connection is None:
            raise AirflowNotFoundException(
                f"connection {self.podrelay_conn_id!r} is not defined: add one of type podrelay (Redis' address), or "
                "set PODRELAY_REDIS_URL"
            )
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
        except PodrelayError as error:
            return False, str(error)
        alive = [worker.incarnation for worker in workers if worker.is_alive]
        at = f"Redis at {connection.settings.masked_redis_url} answers; queue {connection.settings.queue!r}"
        if not alive:
            return True, f"{at} has no live worker: tasks will wait until one is there"
        return True, f"{at} is served by {len(alive)} worker(s): {', '.join(sorted(alive)[:5])}"

"""The door to redis-py: makes connections, carries out steps, translates errors.

redis-py's defaults do not fit: RESP3 has other reply shapes, ``socket_timeout`` (5 s) would break a blocking read, and
without one a half-open connection would hang for ever. Retries within a call are bounded, jittered and set here only;
they are safe because every step that is sent twice has the effect of one. (What redis-py itself does wrong is made up
for in :mod:`dispatcher.async_pool`.)
"""

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.retry
import redis.backoff
import redis.connection
import redis.exceptions
import redis.retry

from dispatcher.async_pool import PubSub, WaitingPool
from dispatcher.errors import PodrelayError, RedisUnavailableError
from dispatcher.plain_text import half_a_pair, shown
from dispatcher.record import decode_generation
from dispatcher.redis_endpoint import RedisEndpoint
from dispatcher.redis_server import UNKNOWN, Server, judge_server
from dispatcher.redis_url import RedisAddress, mask_url, parse_redis_url
from dispatcher.script import Step, script_sha, script_text

T = TypeVar("T")
log = logging.getLogger("podrelay.redis")

#: What says that Redis is away, loading, read-only after a failover, or full: worth another try, now or later.
UNAVAILABLE = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.TryAgainError,
    OSError,
)

#: Everything that Redis or the way to it can answer instead of a reply, also what no retry within a call mends (no
#: permission, a disk that is full, a script that blocks the server).
REFUSED = (redis.exceptions.RedisError, OSError)


class WrongServerError(redis.exceptions.ResponseError):
    """A server that podrelay can never use."""


def connect(endpoint: RedisEndpoint | str, *, timeout_s: float, retries: int) -> "redis.Redis":
    """Make a synchronous client (nothing is sent yet).

    ``timeout_s`` bounds each reply, ``retries`` counts the tries after the first.
    A blocking read needs a client whose ``timeout_s`` is longer than its BLOCK.
    """
    endpoint = _endpoint(endpoint)
    pool = redis.ConnectionPool(
        connection_class=_connection_class(redis.connection, endpoint.address),
        retry=redis.retry.Retry(_backoff(), retries),
        retry_on_error=list(UNAVAILABLE),
        redis_connect_func=FirstLook(endpoint).look,
        **_options(endpoint, timeout_s),
    )
    return redis.Redis.from_pool(pool)


def connect_async(
    endpoint: RedisEndpoint | str, *, timeout_s: float, retries: int, max_connections: int = 8
) -> "redis.asyncio.Redis":
    """Make an asynchronous client. Callers wait for a free connection when all ``max_connections`` are in use."""
    endpoint = _endpoint(endpoint)
    pool = WaitingPool(
        connection_class=_connection_class(redis.asyncio.connection, endpoint.address),
        max_connections=max_connections,
        retry=redis.asyncio.retry.Retry(_backoff(), retries),
        retry_on_error=list(UNAVAILABLE),
        redis_connect_func=FirstLook(endpoint).look_async,
        **_options(endpoint, timeout_s),
    )
    return redis.asyncio.Redis.from_pool(pool)


def broker_options(endpoint: RedisEndpoint, *, timeout_s: float) -> dict[str, Any]:
    """Return what a connection pool of kombu's is made of: the same connections as all others."""
    made_of = _connection_class(redis.connection, endpoint.address)
    look = FirstLook(endpoint).look
    return {"connection_class": made_of, "redis_connect_func": look, **_options(endpoint, timeout_s)}


def _endpoint(given: RedisEndpoint | str) -> RedisEndpoint:
    return RedisEndpoint(parse_redis_url(given)) if isinstance(given, str) else given


def _connection_class(door: Any, address: RedisAddress) -> Any:
    if address.socket_path is not None:
        return door.UnixDomainSocketConnection
    return door.Connection if address.tls is None else door.SSLConnection


def _options(endpoint: RedisEndpoint, timeout_s: float) -> dict[str, Any]:
    """Return what every connection is made of. redis-py sees no URL, and none of its defaults decides."""
    return {
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": 0,
        "decode_responses": False,
        "client_name": "podrelay",
        "db": endpoint.address.database,
        "credential_provider": _Account(endpoint),
        **_where(endpoint.address),
    }


def _where(address: RedisAddress) -> dict[str, Any]:
    if address.socket_path is not None:
        return {"path": address.socket_path}
    where: dict[str, Any] = {"host": address.host, "port": address.port, "socket_keepalive": True}
    if (tls := address.tls) is not None:
        where |= {
            "ssl_cert_reqs": "required" if tls.is_verified else "none",
            "ssl_check_hostname": tls.checks_hostname,
            "ssl_ca_certs": tls.ca_file,
            "ssl_certfile": tls.cert_file,
            "ssl_keyfile": tls.key_file,
            "ssl_password": tls.key_password or "",  # without one OpenSSL asks the terminal
        }
    return where


class _Account(redis.CredentialProvider):
    """Who a new connection says it is."""

    def __init__(self, endpoint: RedisEndpoint) -> None:
        self._endpoint = endpoint

    def get_credentials(self) -> Any:
        return self._endpoint.account()

    async def get_credentials_async(self) -> Any:
        return self._endpoint.account()


class FirstLook:
    """Looks at the server on a pool's first connection: whether podrelay can use it, and what may lose jobs.

    A server that does not let us ask is used.

    Attributes:
        server: what was found; None before.
    """

    def __init__(self, endpoint: RedisEndpoint) -> None:
        self._endpoint = endpoint
        self.server: Server | None = None

    def look(self, connection: Any) -> None:
        """Prepare a new connection, and look where nobody has."""
        self._begin(connection)
        try:
            connection.on_connect()
        except redis.exceptions.ResponseError as error:
            self._look(connection)  # a cluster and a Sentinel refuse SELECT before they can say what they are
            raise self._refused(error) from None
        self._look(connection)

    def _look(self, connection: Any) -> None:
        if self.server is None:
            connection.send_command("INFO", check_health=False)
            with _unknown_if_refused() as found:
                found.append(connection.read_response())
            self._end(found)

    async def look_async(self, connection: Any) -> None:
        """Do as :meth:`look`. Cancelled, it leaves no reply for whoever takes the connection next."""
        self._begin(connection)
        try:
            try:
                await connection.on_connect()
            except redis.exceptions.ResponseError as error:
                await self._look_async(connection)
                raise self._refused(error) from None
            await self._look_async(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def _look_async(self, connection: Any) -> None:
        if self.server is None:
            await connection.send_command("INFO", check_health=False)
            with _unknown_if_refused() as found:
                found.append(await connection.read_response())
            self._end(found)

    def _refused(self, error: redis.exceptions.ResponseError) -> redis.exceptions.ResponseError:
        """Say of a server that refuses a connection what it has not got."""
        if "out of range" in str(error):
            return WrongServerError(f"it has no database {self._endpoint.address.database}: {error}")
        return error

    def _begin(self, connection: Any) -> None:
        # CLIENT SETINFO would be one more right to give, and two round trips. (Before redis-py 7.2: two names.)
        connection.driver_info = connection.lib_name = connection.lib_version = None
        if (tls := self._endpoint.address.tls) is not None and tls.weakness:
            _tell_once(logging.WARNING, f"Redis at {self._endpoint.shown} is not verified, {tls.weakness}")

    def _end(self, found: list[Any]) -> None:
        """Judge what was found.

        Raises:
            WrongServerError: podrelay can never use the server.
            redis.exceptions.ReadOnlyError: it cannot be used now.
        """
        server = judge_server(found[0].decode("utf-8", "replace")) if found else UNKNOWN
        if server.refusal:
            raise WrongServerError(server.refusal)
        if server.absence:
            raise redis.exceptions.ReadOnlyError(server.absence)
        if server.danger:
            _tell_once(logging.ERROR, f"{server.danger}, at {self._endpoint.shown}")
        self.server = server


@contextmanager
def _unknown_if_refused() -> Iterator[list[Any]]:
    """Take a refusal for no answer, where Redis itself is there."""
    try:
        yield []
    except redis.exceptions.ResponseError as error:
        if isinstance(error, UNAVAILABLE):
            raise


@lru_cache(maxsize=64)
def _tell_once(level: int, words: str) -> None:
    log.log(level, "%s", words)


def danger_of(client: "redis.Redis") -> str | None:
    """Return what was seen of a server that may lose jobs; None where nothing was, or nothing could be asked yet."""
    look: Any = client.connection_pool.connection_kwargs["redis_connect_func"]
    return look.__self__.server.danger if look.__self__.server else None


def _backoff() -> redis.backoff.ExponentialWithJitterBackoff:
    return redis.backoff.ExponentialWithJitterBackoff(base=0.1, cap=2)


def pubsub(client: "redis.asyncio.Redis") -> PubSub:
    """Take a Pub/Sub connection out of the client's pool."""
    return PubSub(client.connection_pool)


def unavailable(url: str, error: BaseException) -> RedisUnavailableError:
    """Make the error about a Redis that cannot be used."""
    what = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in what:
        what += " If its authority is one of your own, name it with PODRELAY_REDIS_CA_FILE."
    return RedisUnavailableError(f"Redis at {mask_url(url)} cannot be used: {what}")


#: How Redis words that a key holds something else than is asked for (within a script's error too): it works, and what
#: it answers is about that key alone.
_ABOUT_A_KEY = (
    "WRONGTYPE",
    "not an integer",
    "not a valid float",
    "Invalid stream ID",
    "exhausted the last possible ID",
)


def is_about_a_key(error: BaseException) -> bool:
    """Whether Redis works, and only says that a key holds something of another kind."""
    return isinstance(error, redis.exceptions.ResponseError) and any(words in str(error) for words in _ABOUT_A_KEY)


def generation_of(reply: Any) -> str:
    """Read Redis' generation from a pipeline's reply; '' where its key holds something else.

    Raises:
        Exception: the reply itself, where it is any other error.
    """
    if isinstance(reply, Exception) and not is_about_a_key(reply):
        raise reply
    return decode_generation(reply)


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn redis-py's errors into ours."""
    try:
        yield
    except REFUSED as error:
        if is_about_a_key(error):
            raise PodrelayError(f"Redis at {mask_url(url)} holds something else than is asked for: {error}") from error
        raise unavailable(url, error) from error
    except UnicodeEncodeError as error:  # an id, a queue, a name: nothing was sent
        raise PodrelayError(f"{shown(error.object)}: {half_a_pair(error.object)}") from error


@asynccontextmanager
async def translated_async(url: str) -> AsyncIterator[None]:
    """Turn redis-py's errors into ours, as :func:`translated` does."""
    with translated(url):
        yield


#: What a script's command may be refused for, by how Redis words it within the script's own error (before 7.0 always
#: ``ERR``): redis-py knows only errors that begin with these words.
_REFUSALS_IN_SCRIPTS = {
    "OOM command not allowed": redis.exceptions.OutOfMemoryError,
    "READONLY You can't write": redis.exceptions.ReadOnlyError,
    "MISCONF ": redis.exceptions.TryAgainError,
    "NOREPLICAS ": redis.exceptions.TryAgainError,
    "BUSY ": redis.exceptions.TryAgainError,
    "MASTERDOWN ": redis.exceptions.TryAgainError,
}


def _recognised(error: redis.exceptions.ResponseError) -> redis.exceptions.ResponseError:
    """Give a script's error the class that it would have had outside a script."""
    for words, kind in _REFUSALS_IN_SCRIPTS.items():
        if words in str(error) and not isinstance(error, UNAVAILABLE):
            return kind(str(error))
    return error


def run(client: "redis.Redis", step: Step[T]) -> T:
    """Carry out one step."""
    try:
        try:
            reply = client.evalsha(script_sha(step.script), len(step.keys), *step.keys, *step.args)
        except redis.exceptions.NoScriptError:
            reply = client.eval(script_text(step.script), len(step.keys), *step.keys, *step.args)
    except redis.exceptions.ResponseError as error:
        raise _recognised(error) from None
    return step.decode(reply)


async def run_async(client: "redis.asyncio.Redis", step: Step[T]) -> T:
    """Carry out one step."""
    try:
        try:
            reply = await client.evalsha(script_sha(step.script), len(step.keys), *step.keys, *step.args)
        except redis.exceptions.NoScriptError:
            reply = await client.eval(script_text(step.script), len(step.keys), *step.keys, *step.args)
    except redis.exceptions.ResponseError as error:
        raise _recognised(error) from None
    return step.decode(reply)


async def run_many(client: "redis.asyncio.Redis", steps: Sequence[Step[T]]) -> list[T | redis.exceptions.ResponseError]:
    """Carry out independent steps in one round trip, in this order. Each is atomic, the whole is not.

    Where Redis answers that a step's own keys hold something of another kind, that error is the step's outcome, and the
    other steps have theirs.

    Raises:
        redis.exceptions.RedisError: the first error that is not about one step's keys.
    """
    if not steps:
        return []
    replies = await _pipelined(client, steps)
    if any(isinstance(reply, redis.exceptions.NoScriptError) for reply in replies):
        for name in {step.script for step in steps}:
            await client.script_load(script_text(name))
        again = [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
        for i, reply in zip(again, await _pipelined(client, [steps[i] for i in again]), strict=True):
            replies[i] = reply
    for reply in replies:
        if isinstance(reply, Exception) and not is_about_a_key(reply):
            raise _recognised(reply) if isinstance(reply, redis.exceptions.ResponseError) else reply
    outcomes = zip(steps, replies, strict=True)
    return [x if isinstance(x, redis.exceptions.ResponseError) else step.decode(x) for step, x in outcomes]


async def _pipelined(client: "redis.asyncio.Redis", steps: Sequence[Step[Any]]) -> list[Any]:
    async with client.pipeline(transaction=False) as pipe:
        for step in steps:
            pipe.evalsha(script_sha(step.script), len(step.keys), *step.keys, *step.args)
        return list(await pipe.execute(raise_on_error=False))

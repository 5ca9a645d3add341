"""The one module that speaks to redis-py: makes connections, carries out steps, translates errors.

redis-py's defaults do not fit: RESP3 has other reply shapes, ``socket_timeout`` (5 s) would break a blocking read, and
without one a half-open connection would hang for ever. Retries within a call are bounded, jittered and set here only;
they are safe because every step that is sent twice has the effect of one.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.exceptions
import redis.retry

from dispatcher.errors import PodrelayError, RedisUnavailableError, SettingsError
from dispatcher.record import decode_generation
from dispatcher.script import Step, script_sha, script_text
from dispatcher.settings import mask_url

T = TypeVar("T")

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


def _options(timeout_s: float) -> dict[str, Any]:
    return {
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "decode_responses": False,
        "client_name": "podrelay",
    }


def _backoff() -> redis.backoff.ExponentialWithJitterBackoff:
    return redis.backoff.ExponentialWithJitterBackoff(base=0.1, cap=2)


def connect(url: str, *, timeout_s: float, retries: int) -> "redis.Redis":
    """Make a synchronous client (nothing is sent yet).

    ``timeout_s`` bounds each reply, ``retries`` counts the tries after the first.
    A blocking read needs a client whose ``timeout_s`` is longer than its BLOCK.
    """
    return redis.Redis.from_url(
        url, retry=redis.retry.Retry(_backoff(), retries), retry_on_error=list(UNAVAILABLE), **_options(timeout_s)
    )


def check_url(url: str) -> None:
    """Make sure that a client can be made of the URL. Sends nothing.

    Raises:
        SettingsError: it cannot, or it means something else than it says.
    """
    try:
        database = urlsplit(url).path.strip("/") if not url.startswith("unix:") else ""
        if database and not database.isdecimal():
            raise ValueError(f"the database must be a number, found {database[:20]!r}")
        with connect(url, timeout_s=1, retries=0) as client:
            client.connection_pool.make_connection()
    except (ValueError, TypeError, redis.exceptions.RedisError) as error:
        raise SettingsError(f"PODRELAY_REDIS_URL: {mask_url(url)}: {error}") from None


def connect_async(url: str, *, timeout_s: float, retries: int, max_connections: int = 8) -> "redis.asyncio.Redis":
    """Make an asynchronous client. Callers wait for a free connection when all ``max_connections`` are in use."""
    pool = _WaitingPool.from_url(
        url,
        max_connections=max_connections,
        retry=redis.asyncio.retry.Retry(_backoff(), retries),
        retry_on_error=list(UNAVAILABLE),
        **_options(timeout_s),
    )
    return redis.asyncio.Redis.from_pool(pool)


class _Cancellable:
    """A mixin for redis-py's connections that makes a write cancellable.

    They write through ``asyncio.wait_for``, which before Python 3.12 swallows a cancellation that comes as the write
    ends (gh-86296): the cancelled task would go on.
    """

    socket_timeout: float | None

    async def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()
        try:
            async with asyncio.timeout(self.socket_timeout):
                await self._send_packed_command([command] if isinstance(command, bytes) else command)
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise redis.exceptions.TimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise redis.exceptions.ConnectionError(f"Error while writing to socket: {error}") from error
        except BaseException:
            await self.disconnect(nowait=True)
            raise


class _WaitingPool(redis.asyncio.ConnectionPool):
    """A pool whose callers wait for a free connection, in order, and may be cancelled at any point.

    redis-py's own ``BlockingConnectionPool`` waits on an ``asyncio.Condition``, which before Python 3.13 loses a
    wake-up when the woken task is cancelled in that moment: everybody else then waits for ever (gh-112202).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        made_of = kwargs.pop("connection_class", redis.asyncio.Connection)
        kwargs["connection_class"] = type(made_of.__name__, (_Cancellable, made_of), {})
        super().__init__(*args, **kwargs)
        self._free = asyncio.Semaphore(self.max_connections)

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        await self._free.acquire()
        connection: Any = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        # Nothing is awaited here, so that a cancellation cannot come between.
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)
        self._free.release()


class PubSub(redis.asyncio.client.PubSub):
    """A Pub/Sub connection that ends when it breaks; whoever listens begins anew on another.

    redis-py's own connects again within any call. The task that listens and one that subscribes may do so at once, and
    one of the two sockets leaks.
    """

    async def connect(self) -> None:
        """Connect, the first time only."""
        if self.connection is None:
            await super().connect()  # type: ignore[no-untyped-call]
        await self.check_health()

    async def check_health(self) -> None:
        """Raise where the connection is lost, instead of connecting again."""
        own: Any = self.connection
        if not own.is_connected:
            raise redis.exceptions.ConnectionError("the Pub/Sub connection is lost")

    async def _reconnect(self, conn: Any, *_: Any, **__: Any) -> None:
        await conn.disconnect(nowait=True)


def pubsub(client: "redis.asyncio.Redis") -> PubSub:
    """Take a Pub/Sub connection out of the client's pool."""
    return PubSub(client.connection_pool)


def unavailable(url: str, error: BaseException) -> RedisUnavailableError:
    """Make the error about a Redis that cannot be used."""
    what = str(error) or type(error).__name__
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

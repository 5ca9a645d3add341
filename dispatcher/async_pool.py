"""redis-py's asyncio connections, made safe to cancel, to share and to lose.

Each class here makes up for one fault of redis-py's, or of asyncio's before Python 3.13, and says which.
"""

import asyncio
from typing import Any

import redis.asyncio
import redis.exceptions


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


class _FreshFiles:
    """A mixin for redis-py's TLS connections that reads certificates and keys anew when it connects again.

    They are renewed under a running process. redis-py's synchronous connections do so by themselves.
    """

    ssl_context: Any

    def _connection_arguments(self) -> Any:
        self.ssl_context.context = None
        return super()._connection_arguments()  # type: ignore[misc]


class WaitingPool(redis.asyncio.ConnectionPool):
    """A pool whose callers wait for a free connection, in order, and may be cancelled at any point.

    redis-py's own ``BlockingConnectionPool`` waits on an ``asyncio.Condition``, which before Python 3.13 loses a
    wake-up when the woken task is cancelled in that moment: everybody else then waits for ever (gh-112202).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        made_of = kwargs.pop("connection_class", redis.asyncio.Connection)
        own = (_Cancellable, _FreshFiles) if issubclass(made_of, redis.asyncio.SSLConnection) else (_Cancellable,)
        kwargs["connection_class"] = type(made_of.__name__, (*own, made_of), {})
        super().__init__(*args, **kwargs)
        self._free = asyncio.Semaphore(self.max_connections)

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Wait for a free connection, and make sure that it is connected."""
        await self._free.acquire()
        connection: Any = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        """Give a connection back."""
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

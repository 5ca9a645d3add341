"""Reading what is on a job's channel now, without waiting for more."""

from collections.abc import Iterator
from typing import Any

from dispatcher import connection, names, steps
from dispatcher.channel import ChannelReader, decode_xread
from dispatcher.events import Cursor, Heard
from dispatcher.reader import check_known
from dispatcher.settings import ClientSettings

#: Entries a read: at most some 4 MB of log.
READ_COUNT = 256


def read_so_far(settings: ClientSettings, job_id: str, cursor: Cursor | None = None) -> Iterator[Heard]:
    """Yield what was published after the cursor (default: from the beginning) and end.

    Raises:
        JobUnknownError: there is no such job.
    """
    url = settings.redis_url.get_secret_value()
    reader, keys = ChannelReader(job_id, cursor), (names.events(job_id), names.log(job_id))
    with connection.connect(url, timeout_s=settings.redis_timeout_s, retries=settings.redis_retries) as redis:
        with connection.translated(url):
            present = connection.run(redis, steps.presence(job_id))
        check_known(job_id, present, None)
        reader.note_generation(present.generation)
        while True:
            places: dict[Any, Any] = {keys[0]: reader.event_id, keys[1]: reader.log_id}
            with connection.translated(url):
                found = decode_xread(redis.xread(places, count=READ_COUNT))
            events, log = (found.get(key.encode(), []) for key in keys)
            yield from reader.take(events, log)
            if not log:
                yield from reader.log_is_drained()
            if not found:
                return

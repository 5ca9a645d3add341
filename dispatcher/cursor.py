"""A reader's place in a job's two streams, and its text form, which callers keep."""

import re
from dataclasses import dataclass

from dispatcher.errors import InvalidCursorError

#: Of how many containers' logs (each attempt's count anew) a cursor holds the end.
MAX_ENDS = 4096
#: How a container may be named where its log is published: a cursor has to hold it.
CONTAINER_NAME = r"[A-Za-z0-9][-A-Za-z0-9_.]{0,252}"
_CURSOR = re.compile(r"(?P<generation>[-A-Za-z0-9]{0,64})/(?P<event>[0-9]+-[0-9]+)/(?P<log>[0-9]+-[0-9]+)/(?P<ends>.*)")
_CURSOR_END = re.compile(rf"([0-9]{{1,9}}):({CONTAINER_NAME}):([0-9]{{1,16}})", re.ASCII)


def _is_id(text: str) -> bool:
    """Whether Redis takes this for the id of a stream's entry."""
    return len(text) <= 41 and all(len(part) <= 20 and int(part) < 2**64 for part in text.split("-"))


@dataclass(frozen=True, slots=True)
class Cursor:
    """A reader's place in a channel. Its text form is what a caller keeps.

    ``ends``: by (attempt, container), up to which byte the log was read: what makes a resumed reader drop what it has
    and notice what is missing, also when Redis was emptied and the streams began anew.
    """

    generation: str = ""
    event_id: str = "0-0"
    log_id: str = "0-0"
    ends: tuple[tuple[int, str, int], ...] = ()

    def encode(self) -> str:
        """Write the text form that :meth:`decode` reads."""
        ends = ",".join(f"{attempt}:{container}:{end}" for attempt, container, end in self.ends)
        return f"{self.generation}/{self.event_id}/{self.log_id}/{ends}"

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """Read what :meth:`encode` wrote. It comes back from outside, so nothing else may pass.

        Raises:
            InvalidCursorError: it is none (a ValueError too).
        """
        parts = _CURSOR.fullmatch(text)
        ends = parts["ends"].split(",") if parts and parts["ends"] else []
        found = [_CURSOR_END.fullmatch(end) for end in ends[: MAX_ENDS + 1]]
        if not parts or len(found) > MAX_ENDS or not (_is_id(parts["event"]) and _is_id(parts["log"])):
            raise InvalidCursorError(text)
        if any(end is None for end in found):
            raise InvalidCursorError(text)
        ends_read = tuple((int(end[1]), end[2], int(end[3])) for end in found if end)
        return cls(parts["generation"], parts["event"], parts["log"], ends_read)

"""Dead letters: messages that no worker could understand, each with the reason, for whoever published it.

Anybody can fill a queue's list of them, so everything about it is bounded: the letters, the bytes of each and of all,
the days.
"""

import base64
import hashlib
import json
from typing import Final

from dispatcher import names
from dispatcher.script import Step

#: The newest are kept, at most so many, and at most so many bytes of them (as they are in Redis).
KEPT: Final = 1000
KEPT_BYTES: Final = 16 * 1024 * 1024
KEPT_S: Final = 7 * 86400
#: Of one message; ``size`` and ``sha256`` describe all of it.
MESSAGE_BYTES: Final = 64 * 1024
REASON_CHARACTERS: Final = 4000


def sha256(message: bytes) -> str:
    """Hash a message (hex): a publisher recognises its own by it."""
    return hashlib.sha256(message).hexdigest()


def encode_letter(message: bytes, *, reason: str, queue: str, at: float) -> str:
    """Write the letter as JSON. ``at``: seconds since the epoch."""
    return json.dumps(
        {
            "bytes": base64.b64encode(message[:MESSAGE_BYTES]).decode(),
            "size": len(message),
            "sha256": sha256(message),
            "reason": reason[:REASON_CHARACTERS],
            "at": at,
            "queue": queue,
        }
    )


def set_aside(letter: str, *, queue: str) -> Step[None]:
    """Keep the letter, and drop the oldest ones beyond the bounds. Sent twice, it is kept twice."""
    return Step(
        "set_aside",
        (names.dead_letters(queue), names.dead_letters_size(queue)),
        (letter, KEPT, KEPT_BYTES, KEPT_S),
        lambda _: None,
    )

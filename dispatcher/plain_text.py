"""Text from outside: what none may contain, and how it is shown within ours.

A NUL ends a text for the kernel and half a surrogate pair has no UTF-8, so both fail later, where nobody expects it.
Control characters are harmless in a value that is only handed on, but not on a terminal: there they are commands. So
whatever is shown goes through :func:`visible`.
"""

import re
import unicodedata
from typing import Final

#: What ends, moves or reorders text: C0, DEL, C1, line separators, bidirectional controls, and what has no UTF-8.
CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: Joiners of scripts and emoji: invisible, and a part of what is written.
_JOINERS: Final = "\u200c\u200d"
_HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")
#: Of a foreign name or text in a problem.
_SHOWN_CHARACTERS: Final = 100
#: Of a place, beyond which nobody reads on.
_SHOWN_PLACE: Final = 500


def half_a_pair(text: str) -> str | None:
    """Say which half of a surrogate pair the text has, which JSON's escapes and undecodable file names can bring."""
    if text.isascii() or (found := _HALF_A_PAIR.search(text)) is None:
        return None
    return f"half a surrogate pair (U+{ord(found[0]):04X}): no UTF-8 can carry it"


def unusable(text: str) -> str | None:
    """Say what no text of a job may have and this one has; None where it can be handed on."""
    return "a NUL: no argument, variable or name can hold it" if "\0" in text else half_a_pair(text)


def has_control(text: str) -> bool:
    """Say whether the text has a character that would act on a terminal instead of being shown (newline, tab too)."""
    return CONTROL.search(text) is not None


def visible(text: str) -> str:
    r"""Write what commands a terminal, or cannot be seen, as Python does (``\x1b``): the text is one line."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs" or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode()


def shown(text: str) -> str:
    """Cut somebody else's text, and escape whatever is not printed, to show it within one of ours."""
    short = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


def place_in(place: str, part: object) -> str:
    """Write a place within another as problems do: ``containers[0].env.PORT``."""
    if len(place) > _SHOWN_PLACE:
        return place if place.endswith("…") else f"{place}…"
    if isinstance(part, int) and not isinstance(part, bool):
        return f"{place}[{part}]"
    name = shown(str(part))
    return f"{place}.{name}" if place else name

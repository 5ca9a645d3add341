"""The Lua scripts of the atomic steps (``lua/*.lua``), and the call of one as a value.

Each script runs in Redis as one step. The prelude and the values that this version knows stand before every one.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Generic, TypeVar

from dispatcher.record import DeletionIntent
from dispatcher.spec import SPEC_LIMIT_BYTES
from dispatcher.status import FailureReason, Status

T = TypeVar("T")
Argument = str | bytes | int | float


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """One call of a script. ``decode`` reads its raw reply (bytes)."""

    script: str
    keys: tuple[str, ...]
    args: tuple[Argument, ...]
    decode: Callable[[Any], T]


@cache
def script_text(name: str) -> str:
    """Read the script's source, with the prelude that all scripts share."""
    folder = resources.files("dispatcher") / "lua"
    return _known_values() + (folder / "prelude.lua").read_text() + (folder / f"{name}.lua").read_text()


def _known_values() -> str:
    """Write the values that this version knows as Lua: each version sends its own scripts, which then know them."""
    known = {"status": Status, "intent": DeletionIntent, "reason": FailureReason}
    sets = (f"{name} = {{{', '.join(f'{value} = true' for value in values)}}}" for name, values in known.items())
    return f"local KNOWN = {{{', '.join(sets)}, spec_bytes = {SPEC_LIMIT_BYTES}}}\n"


@cache
def script_sha(name: str) -> str:
    """Name the script as EVALSHA does."""
    return hashlib.sha1(script_text(name).encode(), usedforsecurity=False).hexdigest()

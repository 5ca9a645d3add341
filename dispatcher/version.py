"""This version's number, the one place where it stands; and how versions of workers compare.

Workers and callers of several versions meet on one queue. A spec that asks for what older workers do not know names the
version that it needs (:data:`SINCE`), and is left to a worker that has it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

#: Of the package too: its metadata is made from this line.
VERSION: Final = "0.2.0"

#: The first version whose workers know a field of the spec. Not listed are the fields of 0.1, which every worker knows.
SINCE: Final[Mapping[str, str]] = {"end_when": "0.2.0", "min_worker_version": "0.2.0"}

_NEEDED = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,2}")


def release_of(version: str) -> tuple[int, int, int]:
    """Return a version's three numbers: what its pre-releases (``0.3.0rc1``) lack of it is not looked at."""
    found = re.match(r"([0-9]{1,4})(?:\.([0-9]{1,4}))?(?:\.([0-9]{1,4}))?", version)
    major, minor, patch = (int(number or 0) for number in found.groups()) if found else (0, 0, 0)
    return major, minor, patch


def is_older(version: str, needed: str) -> bool:
    """Tell whether a worker of this version lacks what a spec needs."""
    return release_of(version) < release_of(needed)


def needed_version(fields: Iterable[str]) -> str:
    """Return the version (``1.2.3``) that knows all of these fields of a spec; '' where every worker does."""
    return latest(SINCE[name] for name in fields if name in SINCE)


def latest(versions: Iterable[str]) -> str:
    """Return the highest of these versions as three numbers; '' where there is none."""
    found = max((release_of(version) for version in versions), default=None)
    return ".".join(map(str, found)) if found else ""


def check_needed(text: str) -> str:
    """Pass on a version that a worker can be asked for.

    Raises:
        ValueError: it is none.
    """
    if not _NEEDED.fullmatch(text):
        raise ValueError("must be a version as 0.2 or 0.2.1: up to three numbers of up to four digits")
    return text

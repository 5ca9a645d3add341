"""Rewrites mount paths to the directories that hold the volumes.

Containers are plain processes that see the host's files, so nothing can really be mounted for them. Instead every
mention of a mount path (or of the termination message path) in command, arguments, environment and working directory
is replaced by the directory that holds the volume. This is the same on every machine and for every user; a path that a
program puts together at run time is not seen.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mounts:
    """Which absolute paths stand for which directories of this machine."""

    paths: Mapping[str, str]

    def rewrite(self, text: str) -> str:
        """Replace every mention of a path, longest first, at path boundaries only."""
        if not self.paths or "/" not in text:
            return text
        longest_first = sorted(self.paths, key=len, reverse=True)
        alternatives = "|".join(re.escape(path) for path in longest_first)
        mention = re.compile(rf"(?<![\w.\-/)}}\]])(?:{alternatives})(?![\w.\-])")
        return mention.sub(lambda found: self.paths[found.group()], text)

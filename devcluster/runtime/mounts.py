"""Mounts, by rewriting their paths to the directories of the volumes.

Containers are plain processes, so nothing can be mounted for them. Instead every mention of a mount path (or of the
termination message path) in command, arguments, environment and working directory is replaced. A path that a program
puts together at run time is not seen.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mounts:
    """The mounts of one container: absolute paths, and the paths of this machine for which they stand."""

    paths: Mapping[str, str]

    def rewrite(self, text: str) -> str:
        """Replace every mention of a path, longest first, at path boundaries only."""
        if not self.paths or "/" not in text:
            return text
        longest_first = sorted(self.paths, key=len, reverse=True)
        alternatives = "|".join(re.escape(path) for path in longest_first)
        mention = re.compile(rf"(?<![\w.\-/)}}\]])(?:{alternatives})(?![\w.\-])")
        return mention.sub(lambda found: self.paths[found.group()], text)

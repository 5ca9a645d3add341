"""This version's number: the one place where it stands. The package's metadata is made from it."""

from typing import Final

VERSION: Final = "0.2.0"

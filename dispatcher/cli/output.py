"""Writes to stdout, at once: log bytes as they are, JSON objects one a line."""

import json
import sys
from typing import Any


def write_object(found: dict[str, Any]) -> None:
    """Write a JSON object as one line to stdout, at once."""
    print(json.dumps(found, ensure_ascii=False), flush=True)


def write_bytes(data: bytes) -> None:
    """Write log bytes to stdout as they are, at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()

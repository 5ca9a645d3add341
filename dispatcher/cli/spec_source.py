"""Reads what `podrelay submit` was given, file and flags, into one plain mapping; the spec itself checks it."""

import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from dispatcher.bounded_json import check_bounded
from dispatcher.errors import InvalidSpecError

#: The largest file that is read: what is submitted is a quarter of it at most, comments and indents apart.
MAX_FILE_BYTES = 1024 * 1024
#: A spec of the largest size has fewer values. An alias of YAML may stand for more than the file has.
MAX_VALUES = 256 * 1024

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_spec_file(path: str) -> dict[str, Any]:
    """Read YAML or JSON; ``-`` is standard input.

    Raises:
        InvalidSpecError: it cannot be read, is neither, or is no mapping; with the line where there is one.
    """
    source = "standard input" if path == "-" else path
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpecError([f"cannot be read: {error}"], source) from None
    if len(raw) > MAX_FILE_BYTES:
        raise InvalidSpecError([f"larger than {MAX_FILE_BYTES} bytes"], source)
    try:
        data = _parse(text, source)
        check_bounded(data, max_nodes=MAX_VALUES)
    except RecursionError:
        raise InvalidSpecError(["nested too deep"], source) from None
    except ValueError as error:
        raise InvalidSpecError([str(error)], source) from None
    if not isinstance(data, dict):
        raise InvalidSpecError([f"must be a mapping of the spec's fields, not {type(data).__name__}"], source)
    return data


def _parse(text: str, source: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            pass  # YAML's flow style begins so too, and its messages name the line as well
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InvalidSpecError([f"{where}{error.problem or error.context}"], source) from None
    except yaml.YAMLError as error:
        raise InvalidSpecError([f"not YAML: {' '.join(str(error).split())}"], source) from None


def merged(file: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """Merge flags over the file's fields; maps (labels, annotations, env) by key or name."""
    spec = dict(file)
    for name, value in flags.items():
        if value is None or value in ({}, []):
            continue
        if name == "env":
            spec[name] = _merged_env(spec.get(name), value)
        elif isinstance(value, dict) and isinstance(spec.get(name), dict):
            spec[name] = {**spec[name], **value}
        else:
            spec[name] = value
    return spec


def _merged_env(before: Any, flags: list[dict[str, Any]]) -> Any:
    if isinstance(before, dict):
        before = [{"name": n, **v} if isinstance(v, dict) else {"name": n, "value": v} for n, v in before.items()]
    if not isinstance(before, list):
        return flags if before is None else before  # wrong: the spec says so
    named = {variable["name"] for variable in flags}
    return [v for v in before if not (isinstance(v, dict) and v.get("name") in named)] + flags


def pairs(given: Iterable[str] | None, flag: str) -> dict[str, str]:
    """Read ``KEY=VALUE`` flags.

    Raises:
        InvalidSpecError: one has no ``=``.
    """
    found = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidSpecError([f"{text!r}: expected KEY=VALUE"], flag)
        found[key] = value
    return found


def env(values: Iterable[str] | None, secrets: Iterable[str] | None) -> list[dict[str, Any]]:
    """Read variables from ``--env NAME=VALUE`` and ``--env-secret NAME=SECRET/KEY``."""
    found: list[dict[str, Any]] = [{"name": n, "value": v} for n, v in pairs(values, "--env").items()]
    for name, reference in pairs(secrets, "--env-secret").items():
        secret, slash, key = reference.partition("/")
        if not (secret and slash and key):
            raise InvalidSpecError([f"{name}={reference}: expected NAME=SECRET/KEY"], "--env-secret")
        found.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return found


def resources(requests: Iterable[str] | None, limits: Iterable[str] | None) -> dict[str, Any]:
    """Read resources from ``--request cpu=500m`` and ``--limit memory=1Gi``."""
    found = {"requests": pairs(requests, "--request"), "limits": pairs(limits, "--limit")}
    return {name: value for name, value in found.items() if value}


def seconds(text: str | None, flag: str) -> float | None:
    """Read a duration: ``90``, ``90s``, ``5m``, ``2h``, ``1d``.

    Raises:
        InvalidSpecError: it is none.
    """
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNIT_S else (text, "s")
    try:
        return float(number) * _UNIT_S[unit]
    except ValueError:
        raise InvalidSpecError([f"{text!r}: expected seconds, or a number with s, m, h or d"], flag) from None

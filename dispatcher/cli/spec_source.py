"""Makes one plain mapping of what `podrelay submit` was given, file and flags; the spec itself checks it."""

from collections.abc import Iterable
from typing import Any

from dispatcher.errors import InvalidSpecError

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


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
    if isinstance(before, dict):  # it stays a mapping: a mistake in it is named by the variable, not by a position
        by_name = {v["name"]: {k: inner for k, inner in v.items() if k != "name"} for v in flags}
        return {**before, **by_name}
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

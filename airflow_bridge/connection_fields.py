"""What the fields of a connection of type ``podrelay`` mean, or which of them cannot be used and why.

The same address comes of them as of a Redis URL. As with settings, what is misspelled is refused with the nearest name:
a queue that is passed over silently would send a task to another cluster.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import TypeAdapter, ValidationError

from dispatcher.redis_url import (
    DEFAULT_PORT,
    RedisAddress,
    Tls,
    parse_redis_url,
    read_database,
    read_flag,
    read_host,
    read_port,
    read_tls,
    read_verification,
)
from dispatcher.spec import QueueName, nearest

CONN_TYPE: Final = "podrelay"


class AirflowConnection(Protocol):
    """What is read of Airflow's object."""

    conn_type: str | None
    host: str | None
    port: int | None
    login: str | None
    password: str | None
    schema: str | None
    extra: str | None


@dataclass(frozen=True, slots=True)
class ConnectionFields:
    """What a connection says. What is None it does not say."""

    address: RedisAddress
    queue: str | None = None
    namespace: str | None = None
    deployment: str | None = None


def read_connection(connection: AirflowConnection) -> ConnectionFields:
    """Read a connection's fields.

    Raises:
        ValueError: one cannot be used; the message names it, and holds no secret.
    """
    if connection.conn_type != CONN_TYPE:
        raise ValueError(f"it is of type {connection.conn_type or '(none)'}, not {CONN_TYPE}")
    extra = _read_extra(connection.extra)
    return ConnectionFields(
        address=_from_url(extra) if "redis_url" in extra else _readable(_from_fields(connection, extra)),
        queue=extra.get("queue"),
        namespace=extra.get("namespace"),
        deployment=extra.get("deployment"),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def _namespace(value: Any) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", _text(value)):
        raise ValueError(f"must be lower-case letters, digits and dashes, found {value[:80]!a}")
    return str(value)


def _queue(value: Any) -> str:
    try:
        return TypeAdapter(QueueName).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{error.errors()[0]['msg']}, found {str(value)[:80]!a}") from None


def _written(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Read what JSON may also say as a flag or a number."""
    return lambda value: read(str(value).lower() if isinstance(value, bool | int) else _text(value))


_EXTRAS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "queue": _queue,
    "namespace": _namespace,
    "deployment": _text,
    "redis_url": lambda value: parse_redis_url(_text(value)),
    "tls": _written(read_flag),
    "ssl_cert_reqs": _written(read_verification),
    "ssl_check_hostname": _written(read_flag),
    "ssl_ca_certs": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
}
#: What Redis' own connection type of Airflow, and a URL, call it.
_CALLED_OTHERWISE: Final[Mapping[str, str]] = {"ssl": "tls", "db": "schema", "url": "redis_url", "host": "host"}


def _read_extra(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("extra: must be a JSON object")
    extra: dict[str, Any] = {}
    for name, value in found.items():
        if name not in _EXTRAS:
            other = _CALLED_OTHERWISE.get(name.lower())
            hint = f" (did you mean {other!r}?)" if other else nearest(name.lower(), _EXTRAS)
            raise ValueError(f"extra: no such field {name[:40]!a}{hint}")
        if value is None or value == "":  # a field of the form that was left empty
            continue
        try:
            extra[name] = _EXTRAS[name](value)
        except ValueError as error:
            raise ValueError(f"extra {name}: {error}") from None
    return extra


def _from_url(extra: Mapping[str, Any]) -> RedisAddress:
    if said := [name for name in extra if name.startswith("ssl_")]:
        raise ValueError(f"extra {said[0]}: redis_url replaces it: write it as an option of the URL")
    address: RedisAddress = extra["redis_url"]
    if extra.get("tls") and address.tls is None:
        raise ValueError("extra tls: redis_url replaces it: begin the URL with rediss://")
    return address


def _from_fields(connection: AirflowConnection, extra: Mapping[str, Any]) -> RedisAddress:
    host = connection.host or "127.0.0.1"
    database = _field("schema", read_database, connection.schema or "0")
    account: dict[str, Any] = {"user": connection.login or None, "password": connection.password or None}
    tls = _tls(extra)
    if host.startswith("/"):
        if connection.port is not None or tls is not None:
            raise ValueError("host: a socket's path has neither a port nor TLS beside it")
        return RedisAddress(socket_path=host, database=database, **account)
    port = DEFAULT_PORT if connection.port is None else _field("port", read_port, str(connection.port))
    return RedisAddress(host=_field("host", _host, host), port=port, database=database, tls=tls, **account)


def _readable(address: RedisAddress) -> RedisAddress:
    """Return the address as its own URL is read: by the same rules as any other."""
    try:
        url = address.url
    except UnicodeEncodeError:
        raise ValueError("login, password, host or extra: a character that is no text") from None
    return parse_redis_url(url)


def _field(name: str, read: Callable[[str], Any], value: str) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _host(text: str) -> str:
    if "://" in text:
        raise ValueError("is a URL: write the name alone, or the whole URL into the extra field redis_url")
    in_brackets = text.startswith("[") and text.endswith("]")
    bare = text[1:-1] if in_brackets else text
    if ":" in text and not in_brackets and text.count(":") == 1:
        raise ValueError("write the name alone: the port has a field of its own")
    return read_host(bare)


def _tls(extra: Mapping[str, Any]) -> Tls | None:
    said = [name for name in extra if name.startswith("ssl_")]
    if not extra.get("tls"):
        if said:
            raise ValueError(f"extra {said[0]}: needs tls")
        return None
    return read_tls({name: extra[name] for name in said})

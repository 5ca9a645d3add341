"""The one reader of Redis URLs: a text becomes a :class:`RedisAddress`, or one line says why it cannot.

redis-py and kombu each read a URL in a way of its own: they differ in how an option is spelt, pass over what they do
not know, and one of them does not verify ``rediss://``. So neither sees the URL: both are given what it means. Knows
no library and opens no file. No message holds a password, nor what may be a piece of one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import AddressValueError, IPv6Address
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from dispatcher.spec import nearest

DEFAULT_PORT: Final = 6379
#: What the kernel takes as the path of a socket (``sun_path``, without the NUL behind it).
MAX_SOCKET_PATH_BYTES: Final = 107

_SCHEMES: Final = ("redis", "rediss", "unix")
_OTHER_SCHEMES: Final[Mapping[str, str]] = {
    "redis+socket": "a socket is written unix:///run/redis.sock?db=0",
    "socket": "a socket is written unix:///run/redis.sock?db=0",
    "redis+unix": "a socket is written unix:///run/redis.sock?db=0",
    "redis+ssl": "TLS is written rediss://",
    "redis+tls": "TLS is written rediss://",
    "valkey": "Valkey is written redis:// too",
    "valkeys": "Valkey with TLS is written rediss:// too",
    "sentinel": "Sentinel is not understood: give an address that follows the primary",
    "redis+sentinel": "Sentinel is not understood: give an address that follows the primary",
    "redis+cluster": "Redis Cluster cannot be used",
}
#: The parts of any URL, as in RFC 3986, appendix B.
_URL: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?", re.IGNORECASE | re.DOTALL)
_HOST_AND_PORT: Final = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::([^:]*))?")
_HOST: Final = re.compile(r"\w(?:[\w.-]*[\w.])?")
_DATABASE: Final = re.compile(r"/?(\d{0,9})/?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tls:
    """How the server is verified, and what it is shown. Without files: the system's authorities, and no certificate."""

    is_verified: bool = True
    checks_hostname: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)

    @property
    def weakness(self) -> str | None:
        """What is not verified; None where all is."""
        if not self.is_verified:
            return "ssl_cert_reqs=none: whoever answers is taken for the server, and is sent the password"
        if not self.checks_hostname:
            return "ssl_check_hostname=false: any server whose certificate is valid is taken for this one"
        return None


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis server is, and who to be there: by host and port, or by the path of a socket."""

    host: str = ""
    port: int = DEFAULT_PORT
    socket_path: str | None = None
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None

    @property
    def shown(self) -> str:
        """The address as it may be shown."""
        secret = None if self.password is None else "***"
        return f"{self._place(secret)}?db={self.database}" if self.socket_path else self._place(secret)

    @property
    def url(self) -> str:
        """The URL of this address, its password in it: :func:`parse_redis_url` gives the address back."""
        secret = None if self.password is None else quote(self.password, safe="")
        written = "&".join(f"{name}={quote(value, safe='/')}" for name, value in self._options())
        return self._place(secret) + (f"?{written}" if written else "")

    @property
    def place(self) -> "RedisAddress":
        """The address without who to be there."""
        return replace(self, user=None, password=None)

    def with_files(self, *, ca_file: str | None, cert_file: str | None, key_file: str | None) -> "RedisAddress":
        """Add the files that the URL does not name itself. Without TLS there is no use for them."""
        if self.tls is None:
            return self
        tls = replace(self.tls, ca_file=self.tls.ca_file or ca_file)
        return replace(self, tls=tls if tls.cert_file else replace(tls, cert_file=cert_file, key_file=key_file))

    def _place(self, secret: str | None) -> str:
        user = quote(self.user or "", safe="")
        account = f"{user}@" if secret is None and user else "" if secret is None else f"{user}:{secret}@"
        if self.socket_path:
            return f"unix://{account}{quote(self.socket_path)}"
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{account}{host}:{self.port}/{self.database}"

    def _options(self) -> list[tuple[str, str]]:
        tls = self.tls or Tls()
        given = {
            "db": str(self.database) if self.socket_path and self.database else None,
            "ssl_cert_reqs": None if tls.is_verified else "none",
            "ssl_check_hostname": None if tls.checks_hostname or not tls.is_verified else "false",
            "ssl_ca_certs": tls.ca_file,
            "ssl_certfile": tls.cert_file,
            "ssl_keyfile": tls.key_file,
            "ssl_password": tls.key_password,
        }
        return [(name, value) for name, value in given.items() if value is not None]


def parse_redis_url(text: str) -> RedisAddress:
    """Read a URL: ``redis://``, ``rediss://`` or ``unix://``.

    Raises:
        ValueError: it cannot be used; the message says why, and holds no secret.
    """
    _check_characters(text)
    scheme, authority, path, query = _split(text)
    account, _, place = authority.rpartition("@")
    options = _read_options(query, scheme)
    user, password = _read_account(account, options)
    if scheme == "unix":
        found = RedisAddress(socket_path=_socket_path(place, path), database=options.get("db", 0))
    else:
        host, port = _host_and_port(place)
        tls = read_tls(options) if scheme == "rediss" else None
        found = RedisAddress(host=host, port=port, database=_database(path, options), tls=tls)
    return replace(found, user=user, password=password)


def read_host(text: str) -> str:
    """Read a host: a name, or an address (IPv6 without its brackets).

    Raises:
        ValueError: it is none.
    """
    if ":" in text:
        try:
            return str(IPv6Address(text))
        except AddressValueError:
            raise ValueError("the host is no IPv6 address") from None
    try:
        is_host = bool(_HOST.fullmatch(text) and text.encode("idna"))
    except UnicodeError:
        is_host = False
    if not is_host:
        raise ValueError("the host is no host name")
    return text


def read_port(text: str) -> int:
    """Read a port.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError("the port must be a number from 1 to 65535")
    return int(text)


def read_database(text: str) -> int:
    """Read the number of a database.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"the database must be a number, found {text[:20]!a}")
    return int(text)


def read_flag(text: str) -> bool:
    """Read what is true or false.

    Raises:
        ValueError: it is neither.
    """
    match text.strip().lower():
        case "true" | "t" | "1" | "yes" | "y" | "on":
            return True
        case "false" | "f" | "0" | "no" | "n" | "off":
            return False
    raise ValueError(f"must be true or false, found {text[:20]!a}")


def read_verification(text: str) -> bool:
    """Read ``ssl_cert_reqs``, as redis-py spells it or as Python does; for a client ``optional`` is ``required``.

    Raises:
        ValueError: it is neither.
    """
    match text.lower().removeprefix("ssl.").removeprefix("cert_"):
        case "required" | "optional":
            return True
        case "none":
            return False
    raise ValueError(f"must be required, optional or none (or CERT_REQUIRED …), found {text[:20]!a}")


def read_tls(options: Mapping[str, Any]) -> Tls:
    """Put together what options (``ssl_…``, each read already) say of TLS.

    Raises:
        ValueError: they contradict one another.
    """
    is_verified = options.get("ssl_cert_reqs", True)
    if not is_verified and options.get("ssl_check_hostname"):
        raise ValueError("ssl_check_hostname=true needs ssl_cert_reqs=required")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("option ssl_keyfile needs ssl_certfile")
    return Tls(
        is_verified=is_verified,
        checks_hostname=is_verified and options.get("ssl_check_hostname", True),
        ca_file=options.get("ssl_ca_certs"),
        cert_file=options.get("ssl_certfile"),
        key_file=options.get("ssl_keyfile"),
        key_password=options.get("ssl_password"),
    )


#: What a URL's query may say.
_OPTIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "db": read_database,
    "username": str,
    "password": str,
    "ssl_cert_reqs": read_verification,
    "ssl_check_hostname": read_flag,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
}
#: What redis-py or kombu take, and podrelay says in another place.
_SAID_ELSEWHERE: Final[Mapping[str, str]] = {
    "timeout": "PODRELAY_REDIS_TIMEOUT_S",
    "socket_timeout": "PODRELAY_REDIS_TIMEOUT_S",
    "socket_connect_timeout": "PODRELAY_REDIS_TIMEOUT_S",
    "retry_on_timeout": "PODRELAY_REDIS_RETRIES",
    "virtual_host": "db",
}


def _check_characters(text: str) -> None:
    for position, character in enumerate(text, start=1):
        if character <= " " or character == "\x7f" or character.isspace():
            raise ValueError(f"has a space or control character (the {position}th): a space is written %20")
        if "\ud800" <= character <= "\udfff":
            raise ValueError(f"has a character that is no text (the {position}th): write it percent-encoded")


def _split(text: str) -> tuple[str, str, str, str]:
    """Split a URL into scheme, authority, path and query."""
    found = _URL.fullmatch(text)
    scheme = found[1].lower() if found else ""
    if found is None or scheme not in _SCHEMES:
        hint = _OTHER_SCHEMES.get(scheme)
        raise ValueError(
            "must be a URL that begins with redis://, rediss:// or unix://" + (f": {hint}" if hint else "")
        )
    _, authority, path, query, fragment = found.groups()
    if "@" in f"{path}{query or ''}{fragment or ''}":
        raise ValueError("has an @ behind the host: in a password write / as %2F, ? as %3F and # as %23; else @ as %40")
    if fragment is not None:
        raise ValueError("has a fragment: # is written %23")
    return scheme, authority, path, query or ""


def _read_options(query: str, scheme: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in _OPTIONS:
            raise ValueError(_no_such_option(name))
        if name.startswith("ssl_") and scheme != "rediss":
            raise ValueError(f"option {name} is for rediss:// only")
        if name in options:
            raise ValueError(f"option {name} is given twice")
        if not value:
            raise ValueError(f"option {name} has no value")
        if "+" in value:
            raise ValueError(f"option {name} has a +: write %2B, or %20 for a space")
        try:
            options[name] = _OPTIONS[name](_decoded(value))
        except ValueError as error:
            raise ValueError(f"option {name}: {error}") from None
    return options


def _no_such_option(name: str) -> str:
    if name in _SAID_ELSEWHERE:
        return f"option {name} is not taken here: see {_SAID_ELSEWHERE[name]}"
    return f"no such option {name[:40]!a}{nearest(name.lower(), _OPTIONS)}"


def _decoded(text: str) -> str:
    """Decode a part.

    Raises:
        ValueError: it is no text, or has what nobody means: the newline at the end of a secret, mostly.
    """
    try:
        found = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ValueError("percent-encoded bytes that are no UTF-8") from None
    if re.search(r"[\x00-\x1f\x7f]", found):
        raise ValueError("a control character (such as %0A, a newline)")
    return found


def _read_account(account: str, options: Mapping[str, Any]) -> tuple[str | None, str | None]:
    user, _, password = account.partition(":")
    try:
        user, password = _decoded(user), _decoded(password)
    except ValueError as error:
        raise ValueError(f"the user or its password has {error}") from None
    for part, name in ((user, "username"), (password, "password")):
        if part and name in options:
            raise ValueError(f"the {name} stands before the host and in option {name}: one of them must go")
    return user or options.get("username"), password or options.get("password")


def _host_and_port(place: str) -> tuple[str, int]:
    found = _HOST_AND_PORT.fullmatch(place)
    if found is None:
        raise ValueError("the host cannot be read: an IPv6 address stands in brackets, redis://[::1]:6379/0")
    in_brackets, host, port = found.groups()
    if in_brackets is not None:
        if ":" not in in_brackets:
            raise ValueError("brackets are for an IPv6 address only")
        return read_host(in_brackets.replace("%25", "%")), read_port(port) if port else DEFAULT_PORT
    if not host:
        raise ValueError("names no host")
    return read_host(host), read_port(port) if port else DEFAULT_PORT


def _database(path: str, options: Mapping[str, Any]) -> int:
    found = _DATABASE.fullmatch(path)
    if found is None:
        raise ValueError(f"the database must be a number, found {path[1:21]!a}")
    if not found[1]:
        return int(options.get("db", 0))
    if options.get("db", int(found[1])) != int(found[1]):
        raise ValueError("the path names one database, option db another")
    return int(found[1])


def _socket_path(place: str, path: str) -> str:
    if place:
        raise ValueError("a socket's path begins with a third slash: unix:///run/redis.sock")
    try:
        found = _decoded(path)
    except ValueError as error:
        raise ValueError(f"the socket's path has {error}") from None
    if not found.strip("/"):
        raise ValueError("names no socket: write unix:///run/redis.sock")
    if re.search(r"\.sock(et)?/\d*/?$", found):
        raise ValueError("a socket's database is an option: unix:///run/redis.sock?db=2")
    if len(found.encode()) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"the socket's path is longer than {MAX_SOCKET_PATH_BYTES} bytes")
    return found


def mask_url(url: str) -> str:
    """Replace the URL's password by ``***``, for messages and logs.

    Also one with ``/``, ``#`` or ``@`` in it, which makes the URL unusable.
    """
    masked = re.sub(r"(?<=://)([^:/?#@]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"([?&](?:ssl_)?password=)[^&]*", r"\1***", masked)

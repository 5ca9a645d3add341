"""Where this process finds Redis, and as whom: an address that stays, and an account that a file may renew.

``PODRELAY_REDIS_URL_FILE`` names a mounted secret. It is read for each new connection, because Kubernetes swaps a
secret's directory under a running process, and nobody is told. What cannot be used then changes nothing.
"""

import logging
import os
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dispatcher.redis_url import RedisAddress, Tls, parse_redis_url

log = logging.getLogger("podrelay.redis")

#: More than any URL has.
MAX_URL_BYTES: Final = 65536


@dataclass(slots=True)
class _Renewal:
    """What was read last of a URL's file, and what was said of it."""

    account: tuple[str, ...]
    said: str | None = None


@dataclass(frozen=True, slots=True)
class RedisEndpoint:
    """An address, and the file that its URL was read from, if it was.

    Two endpoints are equal where they lead to the same account of the same server.
    """

    address: RedisAddress
    url_file: str | None = None
    _renewal: _Renewal = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_renewal", _Renewal(_account(self.address)))

    @property
    def shown(self) -> str:
        """The address as it may be shown."""
        return self.address.shown

    def account(self) -> tuple[str, ...]:
        """Return user and password, the password alone, or nothing, as Redis' AUTH takes them at this moment."""
        if self.url_file is not None:
            self._renew(self.url_file)
        return self._renewal.account

    def _renew(self, path: str) -> None:
        try:
            found = read_url_file(path)
        except ValueError as error:
            self._say_once(f"{error}; the account that was read before is used on")
            return
        if _site(found) != _site(self.address):
            words = f"{path} names another server now, {found.shown}; this process stays at {self.shown}: restart it"
            self._say_once(f"PODRELAY_REDIS_URL_FILE: {words}")
            return
        self._renewal.account, self._renewal.said = _account(found), None

    def _say_once(self, words: str) -> None:
        if self._renewal.said != words:
            self._renewal.said = words
            log.warning("%s", words)


def _account(address: RedisAddress) -> tuple[str, ...]:
    if address.user is not None:
        return address.user, address.password or ""
    return () if address.password is None else (address.password,)


def _site(address: RedisAddress) -> tuple[object, ...]:
    """Return what a running process cannot change: which server, which database, with or without TLS."""
    return address.host, address.port, address.socket_path, address.database, address.tls is not None


def read_url_file(path: str) -> RedisAddress:
    """Read the URL that a file holds, without the newline at its end.

    Raises:
        ValueError: there is none that can be used; the message names setting and file.
    """
    try:
        return parse_redis_url(_read_text(path))
    except OSError as error:
        raise ValueError(f"PODRELAY_REDIS_URL_FILE: {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(f"PODRELAY_REDIS_URL_FILE: {path}: {error}") from None


def _read_text(path: str) -> str:
    """Read a small regular file: a pipe or a device would have no end, or wait for one."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise ValueError("is no regular file")
        found = os.read(opened, MAX_URL_BYTES + 1)
    finally:
        os.close(opened)
    if len(found) > MAX_URL_BYTES:
        raise ValueError("is too large for a URL")
    try:
        text = found.decode()
    except UnicodeDecodeError:
        raise ValueError("is no UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError("is empty")
    return text


def check_tls_files(tls: Tls, *, named: Callable[[str], str]) -> None:
    """Make sure that the files that TLS needs can be used. ``named`` says where an option's file was named.

    Raises:
        ValueError: one cannot; the message names it.
    """
    context = ssl.create_default_context()
    try:
        if tls.ca_file:
            context.load_verify_locations(tls.ca_file)
    except OSError as error:
        raise ValueError(f"{named('ssl_ca_certs')}: {tls.ca_file}: {_why(error, 'no certificates in PEM')}") from None
    try:
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file, password=tls.key_password or "")
    except OSError as error:
        files = " and ".join(filter(None, (tls.cert_file, tls.key_file)))
        words = "no certificate and its key in PEM, the key in the clear or with ssl_password"
        raise ValueError(f"{named('ssl_certfile')}: {files}: {_why(error, words)}") from None


def _why(error: OSError, words: str) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{words} ({error.reason or error})"
    return error.strerror or str(error)

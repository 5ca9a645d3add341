"""The worker's credentials for the API server: headers and a TLS context, renewed while it runs.

Everything that a kubeconfig points to may be replaced under a running worker: token files and certificates by whoever
rotates them, the kubeconfig itself by k3s and kubeadm, an exec plugin's token by time. So all of it is looked at again
every few seconds, and at once when the API server answers 401; one renewal at a time, for all requests.
"""

import asyncio
import base64
import os
import re
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Final

import structlog

from worker.cluster import exec_plugin
from worker.cluster.backoff import Backoff
from worker.cluster.exec_plugin import ExecCredential
from worker.cluster.kubeconfig import AuthInfo, ClusterConfiguration, ConfigurationError, ExecPlugin, load
from worker.cluster.responses import ClusterUnavailableError, CredentialsError
from worker.cluster.tls import tls_context

log = structlog.get_logger("podrelay.worker")

#: How often files are looked at again.
RELOAD_S: Final = 10.0
#: How often a 401 may ask for renewal: what is refused for good must not run a plugin with every request.
REFUSAL_RETRY_S: Final = 5.0
#: A token is renewed before its end, by this part of its life, at most so many seconds.
_MARGIN: Final = 0.2
_MARGIN_S: Final = 60.0

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """The credentials that go with a request. Another object: something has changed."""

    headers: tuple[tuple[str, str], ...]
    tls: ssl.SSLContext | None  #: None: plain HTTP


@dataclass(frozen=True, slots=True)
class _Material:
    """What the headers and the TLS context are made of."""

    authorization: str | None
    impersonation: tuple[tuple[str, str], ...]
    authority: bytes | None
    certificate: bytes | None
    key: bytes | None

    def tls_context(self, configuration: ClusterConfiguration) -> ssl.SSLContext | None:
        return tls_context(configuration, authority=self.authority, certificate=self.certificate, key=self.key)


@dataclass(frozen=True, slots=True)
class _PluginOutput:
    """What a plugin printed, and for how long (monotonic seconds) it holds."""

    plugin: ExecPlugin
    credential: ExecCredential
    renew_at: float
    valid_until: float


class Credentials:
    """The credentials for one API server. Belongs to one event loop."""

    def __init__(
        self, configuration: ClusterConfiguration, read_again: Callable[[str], ClusterConfiguration] | None = None
    ) -> None:
        self._configuration = configuration
        self._read_again = read_again or (lambda context: load(os.environ, context=context))
        self._seen = _stats(configuration.files)
        self._material: _Material | None = None
        self._output: _PluginOutput | None = None
        self._access: Access | None = None
        self._error: ClusterUnavailableError | None = None
        self._reload_at = -inf
        self._refusal_retry_at = -inf
        self._renewal: asyncio.Task[None] | None = None
        self._backoff = Backoff(first_s=1.0, longest_s=60.0)

    def check(self) -> None:
        """Check that what is in files can be used. Blocks; runs no plugin.

        Raises:
            ConfigurationError: it cannot.
        """
        auth = self._configuration.auth
        fixed = AuthInfo(certificate=auth.certificate, key=auth.key)
        self._read(replace(self._configuration, auth=fixed), None).tls_context(self._configuration)

    async def current(self) -> Access:
        """Return what to send now, renewed where it is time.

        Raises:
            CredentialsError: there is nothing that holds, and why.
        """
        if time.monotonic() >= self._reload_at:
            self._begin_renewal(is_forced=False)
            if not self._is_valid():
                await self._renewed()
        return self._valid_access()

    async def after_refusal(self, refused: Access) -> Access:
        """Return what to send instead of what the API server just refused; the same where there is nothing else.

        Raises:
            CredentialsError: renewing failed, and why.
        """
        await self._renewed()
        if self._access is refused and time.monotonic() >= self._refusal_retry_at:
            self._refusal_retry_at = time.monotonic() + REFUSAL_RETRY_S
            self._begin_renewal(is_forced=True)
            await self._renewed()
            if self._error is not None:
                raise CredentialsError(str(self._error)) from self._error
        return self._valid_access()

    async def close(self) -> None:
        """End a renewal that is under way."""
        if self._renewal is not None:
            self._renewal.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewal

    # One renewal at a time

    def _begin_renewal(self, *, is_forced: bool) -> None:
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew(is_forced=is_forced))

    async def _renewed(self) -> None:
        """Wait for the renewal that is under way; it goes on without those who no longer wait."""
        if self._renewal is not None:
            await asyncio.shield(self._renewal)

    def _is_valid(self) -> bool:
        return self._access is not None and (self._output is None or time.monotonic() < self._output.valid_until)

    def _valid_access(self) -> Access:
        if self._access is None or not self._is_valid():
            raise CredentialsError(str(self._error or "the credentials have expired")) from self._error
        return self._access

    async def _renew(self, *, is_forced: bool) -> None:
        try:
            await self._reload(is_forced=is_forced)
        except Exception as failure:  # noqa: BLE001 whatever others' files and programs lead to: no request's own failure
            # What is held may do for a while: a file may just be being written.
            error = _unavailable(failure)
            if self._access is not None:
                log.warning("credentials not renewed", source=self._configuration.source, why=str(error))
            self._error = error
            self._reload_at = time.monotonic() + self._backoff.failed()
        else:
            self._error = None
            self._backoff.succeeded()
            renew_at = self._output.renew_at if self._output else inf
            self._reload_at = min(time.monotonic() + RELOAD_S, renew_at)

    async def _reload(self, *, is_forced: bool) -> None:
        configuration, seen = await asyncio.to_thread(self._read_configuration)
        plugin = _effective_plugin(configuration.auth)
        output = None if plugin is None else await self._run_plugin(plugin, configuration, is_forced=is_forced)
        material = await asyncio.to_thread(self._read, configuration, output)
        if self._access is None or material != self._material:
            self._access = await asyncio.to_thread(self._make, configuration, material)
            self._material = material
        self._configuration, self._seen, self._output = configuration, seen, output

    async def _run_plugin(
        self, plugin: ExecPlugin, configuration: ClusterConfiguration, *, is_forced: bool
    ) -> _PluginOutput:
        known = self._output
        if known is not None and known.plugin == plugin and not is_forced and time.monotonic() < known.renew_at:
            return known
        authority = configuration.authority
        told = None if authority is None else await asyncio.to_thread(authority.read)
        credential = await exec_plugin.run(plugin, authority=told)
        renew_at, valid_until = _times(credential.expires_at)
        return _PluginOutput(plugin, credential, renew_at, valid_until)

    # In a thread: all that reads files

    def _read_configuration(self) -> tuple[ClusterConfiguration, object]:
        """Return the kubeconfig, read again where a file has changed.

        The context and the server stay those of the start: a worker must not wander to another cluster, which knows
        nothing of its pods.
        """
        known, seen = self._configuration, _stats(self._configuration.files)
        if seen == self._seen:
            return known, seen
        found = self._read_again(known.context)
        if found.server != known.server:
            text = f"{found.source} names another server now ({found.server}): restart the worker to go there"
            raise ConfigurationError(text)
        return found, seen

    def _read(self, configuration: ClusterConfiguration, output: _PluginOutput | None) -> _Material:
        auth, credential = configuration.auth, output.credential if output else None
        authority = configuration.authority
        certificate, key = (credential.certificate, credential.key) if credential else (None, None)
        if certificate is None and auth.certificate is not None and auth.key is not None:
            certificate, key = auth.certificate.read(), auth.key.read()
        return _Material(
            authorization=_authorization(auth, credential),
            impersonation=auth.impersonation,
            authority=authority.read() if authority else None,
            certificate=certificate,
            key=key,
        )

    def _make(self, configuration: ClusterConfiguration, material: _Material) -> Access:
        headers = material.impersonation
        if material.authorization is not None:
            headers = (("Authorization", material.authorization), *headers)
        known = self._material
        is_same_tls = known is not None and (known.authority, known.certificate, known.key) == (
            material.authority,
            material.certificate,
            material.key,
        )
        # Another context is another set of connections: those made with the former certificate are not used again.
        tls = self._access.tls if self._access and is_same_tls else material.tls_context(configuration)
        return Access(headers, tls)


def _unavailable(failure: Exception) -> ClusterUnavailableError:
    if isinstance(failure, ClusterUnavailableError):
        return failure
    return CredentialsError(f"the configuration cannot be used: {type(failure).__name__}: {failure}")


def _effective_plugin(auth: AuthInfo) -> ExecPlugin | None:
    return auth.plugin if (auth.token_file, auth.token, auth.basic) == (None, None, None) else None


def _stats(files: tuple[Path, ...]) -> object:
    """Return what changes when one of the files does."""

    def stat(path: Path) -> tuple[int, int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    return [stat(path) for path in files]


def _times(expires_at: datetime | None) -> tuple[float, float]:
    """Return when to renew credentials, and until when they hold at all (monotonic seconds).

    What has expired already by this machine's clock may be good by the API server's: then only that decides.
    """
    life_s = inf if expires_at is None else (expires_at - datetime.now(UTC)).total_seconds()
    now = time.monotonic()
    if life_s <= 0:
        return now + RELOAD_S, inf
    return now + life_s - min(_MARGIN_S, _MARGIN * life_s), now + life_s


def _authorization(auth: AuthInfo, credential: ExecCredential | None) -> str | None:
    if auth.basic is not None and auth.token_file is None:
        return "Basic " + base64.b64encode(":".join(auth.basic).encode()).decode()
    if auth.token_file is not None:
        token: str | None = _token_in(auth.token_file)
    else:
        token = auth.token or (credential.token if credential else None)
    if token is None:
        return None
    if not _TOKEN.fullmatch(token):
        raise CredentialsError("the token holds characters that no header can carry")
    return f"Bearer {token}"


def _token_in(path: Path) -> str:
    try:
        token = path.read_bytes().decode("utf-8", "replace").strip()
    except OSError as error:
        raise CredentialsError(f"token file {path}: {error.strerror or error}") from error
    if not token:
        raise CredentialsError(f"token file {path} is empty")
    return token

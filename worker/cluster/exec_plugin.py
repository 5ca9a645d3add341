"""Run a kubeconfig's exec plugin, which prints credentials (client.authentication.k8s.io).

It is somebody else's: it may be missing, hang, fail, print anything or leave children behind. All of that is
*unavailable*, told in its own words, within a bounded time. What it prints on its standard output is never repeated.
"""

import asyncio
import base64
import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from worker.cluster.kubeconfig import ExecPlugin
from worker.cluster.responses import CredentialsError, printable

PLUGIN_S = 60.0
_LONGEST: Final = 1024 * 1024
_WORDS: Final = 300


@dataclass(frozen=True, slots=True)
class ExecCredential:
    """The credential that a plugin printed. ``expires_at``: None where it does not say."""

    token: str | None
    certificate: bytes | None
    key: bytes | None
    expires_at: datetime | None


async def run(plugin: ExecPlugin, *, authority: bytes | None) -> ExecCredential:
    """Run the plugin once. ``authority``: the cluster's certificate authority, for one that wants to be told.

    Raises:
        CredentialsError: it did not print a credential in time.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.args,
            env=_environment(plugin, authority),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        hint = f". {printable(plugin.install_hint)}" if plugin.install_hint else ""
        why = getattr(error, "strerror", None) or error
        raise CredentialsError(f"exec plugin {plugin.command!r} cannot be started: {why}{hint}") from error
    try:
        async with asyncio.timeout(PLUGIN_S):
            printed, said = await asyncio.gather(_start_of(process.stdout), _end_of(process.stderr))
            code = await process.wait()
    except TimeoutError as error:
        raise CredentialsError(f"exec plugin {plugin.command!r} did not end within {PLUGIN_S:g} s") from error
    finally:
        await _end(process)
    if code != 0:
        raise CredentialsError(f"exec plugin {plugin.command!r} ended with code {code}: {said or 'without a word'}")
    return _credential(plugin, printed, said)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the plugin where it has not ended by itself, with all that it started."""
    if process.returncode is None or not _pipe(process.stdout).at_eof() or not _pipe(process.stderr).at_eof():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.gather(_start_of(process.stdout), _end_of(process.stderr))
                await process.wait()
    process._transport.close()  # type: ignore[attr-defined]  # a child in a session of its own may hold the pipes


def _pipe(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    assert stream is not None
    return stream


def _environment(plugin: ExecPlugin, authority: bytes | None) -> dict[str, str]:
    """Return the worker's environment without its settings: the plugin need not know the way to Redis."""
    spec: dict[str, Any] = {"interactive": False}
    if plugin.cluster is not None:
        spec["cluster"] = dict(plugin.cluster)
        if authority is not None:
            spec["cluster"]["certificate-authority-data"] = base64.b64encode(authority).decode()
    asked = {"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec}
    own = {name: value for name, value in os.environ.items() if not name.startswith("PODRELAY_")}
    return {**own, **dict(plugin.env), "KUBERNETES_EXEC_INFO": json.dumps(asked)}


async def _start_of(stream: asyncio.StreamReader | None) -> bytes:
    """Read to the end; what is beyond the limit is dropped, but for a byte that tells of it."""
    kept = bytearray()
    while piece := await _pipe(stream).read(65_536):
        kept += piece[: _LONGEST + 1 - len(kept)]
    return bytes(kept)


async def _end_of(stream: asyncio.StreamReader | None) -> str:
    kept = b""
    while piece := await _pipe(stream).read(65_536):
        kept = (kept + piece)[-4096:]
    return printable(kept.decode("utf-8", "replace")[-_WORDS:])


def _credential(plugin: ExecPlugin, printed: bytes, said: str) -> ExecCredential:
    try:
        if len(printed) > _LONGEST:
            raise ValueError(f"more than {_LONGEST} bytes")
        body = json.loads(printed)
        match body:
            case {"kind": "ExecCredential", "apiVersion": plugin.api_version, "status": {**status}}:
                found = ExecCredential(
                    token=_text(status, "token"),
                    certificate=_pem(status, "clientCertificateData"),
                    key=_pem(status, "clientKeyData"),
                    expires_at=_time(_text(status, "expirationTimestamp")),
                )
            case _:
                raise ValueError(f"no ExecCredential of {plugin.api_version} with a status")
        if found.token is None and found.certificate is None:
            raise ValueError("neither a token nor a client certificate")
        if (found.certificate is None) != (found.key is None):
            raise ValueError("a client certificate without its key, or the other way round")
    except (ValueError, RecursionError) as error:
        why = "what is no JSON" if isinstance(error, (json.JSONDecodeError, RecursionError)) else str(error)
        also = f" (it said: {said})" if said else ""
        raise CredentialsError(f"exec plugin {plugin.command!r} printed {why}{also}") from error
    return found


def _text(status: Mapping[object, object], field: str) -> str | None:
    value = status.get(field)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"a {field} that is no text")
    return value or None


def _pem(status: Mapping[object, object], field: str) -> bytes | None:
    text = _text(status, field)
    return None if text is None else text.encode()


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("an expirationTimestamp that is no time") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)

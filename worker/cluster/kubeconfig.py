"""Which cluster, and as whom: ``KUBECONFIG`` as kubectl reads it, or the pod's service account.

Read here and not by a client library, because what expires must be read again: files are rewritten by whoever renews
what is in them (k3s and kubeadm rewrite the kubeconfig itself), and loaders read once, drop fields (``as``, a plugin's
certificate) and say little. Every field that kubectl honours is either used or named as not supported.
"""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from yarl import URL

from worker.cluster.kubeconfig_file import (
    ClusterEntry,
    ContextEntry,
    ExecEntry,
    Section,
    UserEntry,
    checked_entry,
    merged_entries,
    read_file,
)
from worker.cluster.proxy import checked_proxy, environment_proxy
from worker.cluster.responses import ClusterUnavailableError, printable

Json = dict[str, Any]

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_DEFAULT: Final = "~/.kube/config"
#: The extension of a cluster that is told to an exec plugin.
_EXEC_EXTENSION: Final = "client.authentication.k8s.io/exec"
EXEC_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_HEADER_VALUE: Final = re.compile(r"[^\x00-\x1f\x7f]*")


class ConfigurationError(ClusterUnavailableError):
    """There is no usable kubeconfig or service account. One line, which names the file and what to do."""


@dataclass(frozen=True, slots=True)
class DataOrFile:
    """Bytes that a field ``x`` names by a file, or ``x-data`` holds itself."""

    named: str
    data: bytes | None = None
    path: Path | None = None

    def read(self) -> bytes:
        """Return the contents as they are now. Blocks.

        Raises:
            ConfigurationError: the file cannot be read, or is empty.
        """
        data = self.data
        if self.path is not None:
            try:
                data = self.path.read_bytes()
            except OSError as error:
                raise ConfigurationError(f"{self.named} {self.path}: {error.strerror or error}") from error
        if not data:
            raise ConfigurationError(f"{self.named} {self.path or ''} is empty".replace("  ", " "))
        return data


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A program that prints credentials (``users[].user.exec``)."""

    api_version: str
    command: str
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    install_hint: str
    cluster: Json | None  #: what it wants to be told of the cluster


@dataclass(frozen=True, slots=True)
class AuthInfo:
    """The user of the API server; the first of ``token_file``, ``token``, ``basic`` and ``plugin`` counts."""

    token_file: Path | None = None
    token: str | None = None
    basic: tuple[str, str] | None = None
    plugin: ExecPlugin | None = None
    certificate: DataOrFile | None = None
    key: DataOrFile | None = None
    impersonation: tuple[tuple[str, str], ...] = ()  #: headers


@dataclass(frozen=True, slots=True)
class ClusterConfiguration:
    """How to reach one API server.

    ``source``: what it was read from, for messages; ``files``: the kubeconfigs; ``ignored``: fields that stand there
    and that nobody knows.
    """

    source: str
    context: str
    server: str
    namespace: str
    auth: AuthInfo
    proxy: str | None = None
    tls_server_name: str | None = None
    is_verified: bool = True
    authority: DataOrFile | None = None
    ignored: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def load(environment: Mapping[str, str], *, context: str | None = None) -> ClusterConfiguration:
    """Read ``KUBECONFIG``, else the service account of this process' pod, else ``~/.kube/config``.

    ``context``: the one to keep to, whatever is the current one by now. Blocks.

    Raises:
        ConfigurationError: there is none that can be used.
    """
    try:
        given = environment.get("KUBECONFIG", "").split(os.pathsep)
        paths = [Path(os.path.expanduser(part)) for part in given if part]
        if not paths and (SERVICE_ACCOUNT / "namespace").exists():
            return _in_cluster(environment)
        return _of_files(paths or [Path(os.path.expanduser(_DEFAULT))], environment, context)
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"no usable cluster configuration: {printable(str(error))}") from error


def _in_cluster(environment: Mapping[str, str]) -> ClusterConfiguration:
    host, port = (environment.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    if not host or not port:
        raise ValueError("a service account is mounted, but KUBERNETES_SERVICE_HOST and _PORT are not set")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return ClusterConfiguration(
        source=f"the service account at {SERVICE_ACCOUNT}",
        context="",
        server=server,
        namespace=(SERVICE_ACCOUNT / "namespace").read_text().strip() or "default",
        auth=AuthInfo(token_file=SERVICE_ACCOUNT / "token"),
        proxy=environment_proxy(server, environment),
        authority=DataOrFile("certificate authority", path=SERVICE_ACCOUNT / "ca.crt"),
    )


def _of_files(paths: list[Path], environment: Mapping[str, str], context: str | None) -> ClusterConfiguration:
    """Merge the files as kubectl does: what comes first counts, files that are not there are passed over."""
    files = [(path, read_file(path)) for path in paths if path.exists()]
    if not files:
        raise ValueError(f"{' and '.join(map(str, paths))} does not exist: KUBECONFIG names the file to use")
    where = " and ".join(str(path) for path, _ in files)
    context = context or next((file.current_context for _, file in files if file.current_context), None)
    contexts = merged_entries(files, "contexts", "context")
    if context is None:
        raise ValueError(f"{where} has no current-context (contexts: {', '.join(contexts) or 'none'})")
    chosen = checked_entry(ContextEntry, contexts, "context", context, where)
    clusters, users = merged_entries(files, "clusters", "cluster"), merged_entries(files, "users", "user")
    cluster = checked_entry(ClusterEntry, clusters, "cluster", chosen.cluster, where)
    user = checked_entry(UserEntry, users, "user", chosen.user, where) if chosen.user else UserEntry()
    bases = _Bases(clusters[chosen.cluster].path, users[chosen.user].path if chosen.user else Path())
    found = _configuration(
        _Chosen(f"context {context!r} of {where}", context, chosen, cluster, user), bases, environment
    )
    return replace(found, files=tuple(path for path, _ in files))


# What it means


@dataclass(frozen=True, slots=True)
class _Chosen:
    source: str
    name: str
    context: ContextEntry
    cluster: ClusterEntry
    user: UserEntry


@dataclass(frozen=True, slots=True)
class _Bases:
    """The kubeconfigs in whose folders relative paths start."""

    cluster: Path
    user: Path


def _configuration(chosen: _Chosen, bases: _Bases, environment: Mapping[str, str]) -> ClusterConfiguration:
    cluster = chosen.cluster
    server = _server(chosen)
    authority = _data_or_file(cluster, "certificate-authority", bases.cluster)
    if cluster.insecure_skip_tls_verify and authority is not None:
        raise ValueError(f"{chosen.source}: insecure-skip-tls-verify and a certificate-authority exclude each other")
    if cluster.proxy_url:
        proxy: str | None = checked_proxy(cluster.proxy_url, f"{chosen.source}: proxy-url")
    else:
        proxy = environment_proxy(server, environment)
    return ClusterConfiguration(
        source=chosen.source,
        context=chosen.name,
        server=server,
        namespace=chosen.context.namespace,
        auth=_auth_info(chosen, bases.user, server),
        proxy=proxy,
        tls_server_name=cluster.tls_server_name,
        is_verified=not cluster.insecure_skip_tls_verify,
        authority=authority,
        ignored=_unknown(cluster=cluster, user=chosen.user, context=chosen.context),
    )


def _server(chosen: _Chosen) -> str:
    server, cluster = chosen.cluster.server, chosen.cluster
    if "://" not in server:
        is_tls = cluster.insecure_skip_tls_verify or cluster.certificate_authority or cluster.certificate_authority_data
        server = f"{'https' if is_tls else 'http'}://{server}"
    try:
        url = URL(server)
    except ValueError as error:
        raise ValueError(f"{chosen.source}: server {server!r} is no URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{chosen.source}: server {server!r} is no http or https URL")
    return server.rstrip("/")


def _auth_info(chosen: _Chosen, base: Path, server: str) -> AuthInfo:
    user = chosen.user
    if user.auth_provider is not None:
        raise ValueError(f"{chosen.source}: auth-provider is not supported, use an exec plugin for the same provider")
    certificate, key = _data_or_file(user, "client-certificate", base), _data_or_file(user, "client-key", base)
    if (certificate is None) != (key is None):
        raise ValueError(f"{chosen.source}: client-certificate and client-key belong together")
    if user.username is not None and user.token is not None:
        raise ValueError(f"{chosen.source}: a user has either a token or a username and password")
    return AuthInfo(
        token_file=_path(user.token_file, base) if user.token_file else None,
        token=user.token,
        basic=None if user.username is None else (user.username, user.password),
        plugin=_plugin(chosen, user.exec_plugin, base, server) if user.exec_plugin else None,
        certificate=certificate,
        key=key,
        impersonation=_impersonation(chosen),
    )


def _plugin(chosen: _Chosen, entry: ExecEntry, base: Path, server: str) -> ExecPlugin:
    if entry.api_version not in EXEC_VERSIONS:
        raise ValueError(
            f"{chosen.source}: exec: apiVersion {entry.api_version!r} is not supported, {EXEC_VERSIONS[0]} is"
        )
    if entry.interactive_mode not in ("Never", "IfAvailable"):
        mode = entry.interactive_mode
        raise ValueError(f"{chosen.source}: exec: interactiveMode {mode!r} is not supported: a worker has no terminal")
    has_folder = os.sep in entry.command
    return ExecPlugin(
        api_version=entry.api_version,
        command=str(_path(entry.command, base)) if has_folder else entry.command,
        args=entry.args,
        env=tuple((variable.name, variable.value) for variable in entry.env),
        install_hint=entry.install_hint,
        cluster=_exec_cluster(chosen.cluster, server) if entry.provide_cluster_info else None,
    )


def _exec_cluster(cluster: ClusterEntry, server: str) -> Json:
    """Return ``spec.cluster`` of an ExecCredential; whoever runs the plugin adds a certificate authority in a file."""
    told: Json = {"server": server}
    if cluster.tls_server_name:
        told["tls-server-name"] = cluster.tls_server_name
    if cluster.insecure_skip_tls_verify:
        told["insecure-skip-tls-verify"] = True
    if cluster.proxy_url:
        told["proxy-url"] = cluster.proxy_url
    if cluster.disable_compression:
        told["disable-compression"] = True
    for extension in cluster.extensions:
        if extension.name == _EXEC_EXTENSION:
            told["config"] = extension.extension
    return told


def _impersonation(chosen: _Chosen) -> tuple[tuple[str, str], ...]:
    user = chosen.user
    if user.as_user is None:
        if user.as_uid or user.as_groups or user.as_user_extra:
            raise ValueError(f"{chosen.source}: as-uid, as-groups and as-user-extra need an `as`")
        return ()
    headers = [("Impersonate-User", user.as_user)]
    if user.as_uid:
        headers.append(("Impersonate-Uid", user.as_uid))
    headers += [("Impersonate-Group", group) for group in user.as_groups]
    for key, values in user.as_user_extra.items():
        headers += [(f"Impersonate-Extra-{quote(key, safe='')}", value) for value in values]
    for name, value in headers:
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"{chosen.source}: what {name} would say cannot be sent in a header")
    return tuple(headers)


def _data_or_file(section: Section, field: str, base: Path) -> DataOrFile | None:
    """Return the field ``x``; ``x-data`` counts before it."""
    attribute = field.replace("-", "_")
    encoded: str | None = getattr(section, f"{attribute}_data")
    if encoded is not None:
        try:
            return DataOrFile(f"{field}-data", data=base64.b64decode("".join(encoded.split()), validate=True))
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"{base}: {field}-data is no base64") from error
    path: str | None = getattr(section, attribute)
    return None if path is None else DataOrFile(field, path=_path(path, base))


def _path(path: str, base: Path) -> Path:
    if "\0" in path or path.encode("utf-8", "replace").decode() != path:
        raise ValueError(f"{base}: {path!r} is the path of no file")
    return base.parent.absolute() / path


def _unknown(**sections: Section) -> tuple[str, ...]:
    """Fields that are none of a kubeconfig's: perhaps misspelt."""
    names = [f"{kind}.{name}" for kind, section in sections.items() for name in section.model_extra or {}]
    exec_plugin = getattr(sections["user"], "exec_plugin", None)
    return tuple(names + [f"user.exec.{name}" for name in (exec_plugin.model_extra if exec_plugin else None) or {}])

"""The fields of a kubeconfig, and the merge of several files as kubectl does it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

# The file, as it is written


class Section(BaseModel):
    """A mapping of a kubeconfig; fields that nobody knows are kept, to be named."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        coerce_numbers_to_str=True,
        alias_generator=lambda name: name.replace("_", "-"),
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        """Empty is not set."""
        return {k: v for k, v in value.items() if v not in (None, "")} if isinstance(value, dict) else value


_S = TypeVar("_S", bound=Section)


class _Extension(Section):
    name: str
    extension: Any = None


class ClusterEntry(Section):
    """``clusters[].cluster``: where an API server is, and how to trust it."""

    server: str
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None
    disable_compression: bool = False
    extensions: tuple[_Extension, ...] = ()


class _Variable(Section):
    name: str
    value: str = ""


class ExecEntry(Section):
    """``users[].user.exec``: the plugin that makes credentials."""

    api_version: str = Field(alias="apiVersion")
    command: str
    args: tuple[str, ...] = ()
    env: tuple[_Variable, ...] = ()
    install_hint: str = Field(default="", alias="installHint")
    provide_cluster_info: bool = Field(default=False, alias="provideClusterInfo")
    interactive_mode: str = Field(default="IfAvailable", alias="interactiveMode")


class UserEntry(Section):
    """``users[].user``: the credentials."""

    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = Field(default=None, alias="tokenFile")
    username: str | None = None
    password: str = ""
    as_user: str | None = Field(default=None, alias="as")
    as_uid: str | None = None
    as_groups: tuple[str, ...] = ()
    as_user_extra: dict[str, tuple[str, ...]] = {}
    exec_plugin: ExecEntry | None = Field(default=None, alias="exec")
    auth_provider: Any = None
    extensions: Any = None


class ContextEntry(Section):
    """``contexts[].context``: which cluster, as which user, in which namespace."""

    cluster: str
    user: str | None = None
    namespace: str = "default"
    extensions: Any = None


class _Named(Section):
    name: str


class KubeconfigFile(Section):
    """One kubeconfig file."""

    current_context: str | None = None
    clusters: tuple[_Named, ...] = ()
    users: tuple[_Named, ...] = ()
    contexts: tuple[_Named, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """One entry of the merged files: what it says, and where."""

    path: Path
    body: Any


def read_file(path: Path) -> KubeconfigFile:
    """Read one kubeconfig file.

    Raises:
        ValueError: it cannot be read, or is none; the text names the file and the field.
    """
    try:
        found = yaml.safe_load(path.read_bytes().decode())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark is not None else ""
        raise ValueError(f"{path} is no YAML{line}") from error
    if found is None:
        return KubeconfigFile()
    return _checked(KubeconfigFile, found, str(path))


def _checked(section: type[_S], found: Any, where: str) -> _S:
    try:
        return section.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {place + ': ' if place else ''}{first['msg']}") from error


def merged_entries(files: list[tuple[Path, KubeconfigFile]], kind: str, field: str) -> dict[str, FoundEntry]:
    """Merge the entries of several files as kubectl does: the first of a name wins."""
    merged: dict[str, FoundEntry] = {}
    for path, file in files:
        own: dict[str, FoundEntry] = {}
        for named in getattr(file, kind):
            if named.name in own:
                raise ValueError(f"{path} has two {kind} named {named.name!r}")
            own[named.name] = FoundEntry(path, (named.model_extra or {}).get(field))
        merged = {**own, **merged}
    return merged


def checked_entry(section: type[_S], found: dict[str, FoundEntry], kind: str, name: str, where: str) -> _S:
    """Check one entry against its section.

    Raises:
        ValueError: it is not there, or wrong; the text names file, kind and field.
    """
    if name not in found:
        raise ValueError(f"{where} has no {kind} {name!r} ({kind}s: {', '.join(found) or 'none'})")
    entry = found[name]
    return _checked(section, entry.body or {}, f"{entry.path}: {kind} {name!r}")

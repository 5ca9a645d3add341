"""What a worker holds itself and no job may have: its service account, and the secrets of its own pod.

A job that has them is the worker: it may do whatever the worker may, and reads and writes all of Redis, past every
other rule. They are in a job's reach only where the worker serves the namespace that it lives in.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

#: The account of pods that name none.
_DEFAULT_ACCOUNT: Final = "default"


@dataclass(frozen=True, slots=True)
class OwnCredentials:
    """The worker's own.

    Attributes:
        secrets: what its pod has in environment and volumes: no job may name them.
        pull_secrets: what its pod has for its image only: jobs may pull with them, and see nothing of them.
    """

    namespace: str
    service_account: str
    secrets: frozenset[str] = frozenset()
    pull_secrets: frozenset[str] = frozenset()

    def with_pod(self, spec: Mapping[str, Any]) -> "OwnCredentials":
        """Return the credentials with all secrets that the worker's own pod names."""
        named = list(named_secrets(spec))
        pulls = frozenset(name for path, name in named if _is_for_pulling(path))
        held = frozenset(name for path, name in named if not _is_for_pulling(path))
        return replace(self, secrets=held, pull_secrets=pulls - held)


def taken(manifest: Mapping[str, Any], own: OwnCredentials) -> Iterator[str]:
    """Say what in this pod is the worker's own, with its path and what to do."""
    if manifest["metadata"].get("namespace") != own.namespace:
        return  # secrets and accounts of these names are somebody else's there
    spec = manifest["spec"]
    why = "a job that had it could do whatever the worker can"
    for path, account in _accounts(spec):
        if account == own.service_account:
            yield f"{path}: {account!r} is the worker's own service account, {why}; use another one"
    for path, name in named_secrets(spec):
        if name in own.secrets or (name in own.pull_secrets and not _is_for_pulling(path)):
            yield f"{path}: {name!r} is the worker's own secret, {why}; use another one"


def _accounts(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return all accounts that a pod names (two fields mean the same), or the one that it has without naming any."""
    named = [(f"spec.{field}", spec[field]) for field in ("serviceAccountName", "serviceAccount") if spec.get(field)]
    return named or [("spec.serviceAccountName", _DEFAULT_ACCOUNT)]


def _is_for_pulling(path: str) -> bool:
    return path.startswith("spec.imagePullSecrets[")


def named_secrets(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return all secrets that a pod's spec names, with their paths.

    By what all such fields have in common, so that no kind of volume is forgotten, and none that is still to come: the
    name stands in a field that is called a secret's (``secretName``), or in an object that is (``secretRef.name``).
    """
    yield from _named_in(spec, "spec", is_secret=False)


def _named_in(found: object, path: str, *, is_secret: bool) -> Iterator[tuple[str, str]]:
    if isinstance(found, Mapping):
        for field, value in found.items():
            here = f"{path}.{field}"
            is_called_so = "secret" in str(field).lower()
            if isinstance(value, str):
                if is_called_so or (is_secret and field == "name"):
                    yield here, value
            else:
                yield from _named_in(value, here, is_secret=is_called_so)
    elif isinstance(found, list | tuple):
        for i, member in enumerate(found):
            yield from _named_in(member, f"{path}[{i}]", is_secret=is_secret)

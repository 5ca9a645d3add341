"""As which service account the worker speaks to its API server, by what its own token says.

The token is a JWT that the API server has signed; its claims tell account, namespace and, where it is bound to one, the
pod. No request and no right is needed to know. It is this process' own token: nobody's word is believed here.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Final

from worker.cluster.kubeconfig import AuthInfo

_SUBJECT: Final = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A service account. ``pod``: the one whose token it is; '' where that is not known."""

    namespace: str
    name: str
    pod: str = ""


def service_account_of(auth: AuthInfo) -> ServiceAccount | None:
    """Return the service account that these credentials stand for; None for any other user. Reads files: blocks."""
    impersonated = next((value for name, value in auth.impersonation if name == "Impersonate-User"), None)
    if impersonated is not None:
        return _by_subject(impersonated)
    token = auth.token
    if auth.token_file is not None:
        try:
            token = auth.token_file.read_text("utf-8", "replace")
        except OSError:  # whoever sends it says so
            return None
    return _by_token(token.strip()) if token else None


def _by_token(token: str) -> ServiceAccount | None:
    claims = _claims(token)
    account = _by_subject(claims.get("sub"))
    bound = claims.get("kubernetes.io")
    pod = bound.get("pod") if isinstance(bound, dict) else None
    name = pod.get("name") if isinstance(pod, dict) else None
    if account is None or not isinstance(name, str):
        return account
    return ServiceAccount(account.namespace, account.name, name)


def _claims(token: str) -> dict[str, Any]:
    """Return what a JWT says; nothing where it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _by_subject(subject: object) -> ServiceAccount | None:
    if not isinstance(subject, str) or not subject.startswith(_SUBJECT):
        return None
    namespace, _, name = subject.removeprefix(_SUBJECT).partition(":")
    return ServiceAccount(namespace, name) if namespace and name else None

"""Tokens of service accounts as an API server signs them, but for the signature, which only it looks at."""

import base64
import json
from typing import Any


def jwt(claims: object) -> str:
    """A token that says this."""
    parts = ({"alg": "RS256", "kid": "x"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def bound_token(namespace: str, account: str, pod: str | None = None) -> str:
    """A token as a pod has it (bound to the pod), or as the TokenRequest API gives it."""
    private: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": account, "uid": "u"}}
    if pod is not None:
        private |= {"pod": {"name": pod, "uid": "p"}, "node": {"name": "n", "uid": "n"}}
    return jwt({"sub": f"system:serviceaccount:{namespace}:{account}", "kubernetes.io": private, "aud": ["x"]})


def legacy_token(namespace: str, account: str) -> str:
    """A token of a secret, as Kubernetes made them before 1.24."""
    prefix = "kubernetes.io/serviceaccount/"
    claims = {f"{prefix}namespace": namespace, f"{prefix}service-account.name": account}
    return jwt({"iss": "kubernetes/serviceaccount", "sub": f"system:serviceaccount:{namespace}:{account}", **claims})

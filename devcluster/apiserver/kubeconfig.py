"""The kubeconfig for clients of this cluster: plain HTTP and a bearer token."""

import os
from pathlib import Path

import yaml


def write_kubeconfig(path: Path, url: str, token: str, *, namespace: str = "default") -> None:
    """Write the file in one step, readable by its owner only: it holds a token."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pocket",
        "preferences": {},
        "clusters": [{"name": "pocket", "cluster": {"server": url}}],
        "users": [{"name": "pocket", "user": {"token": token}}],
        "contexts": [{"name": "pocket", "context": {"cluster": "pocket", "user": "pocket", "namespace": namespace}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(yaml.safe_dump(content, sort_keys=False))
    temporary.replace(path)

"""What may be shown of a pod: Airflow's own masker decides, by the name under which a value stands.

It hides the value under a key like ``API_PASSWORD``, and knows the secrets of connections. But a variable of a
container is a pair of fields, ``name`` and ``value``, which tells it nothing: so it is asked by the variable's name.
"""

from collections.abc import Mapping
from typing import Any


def masked_variable(variable: Mapping[str, Any]) -> dict[str, Any]:
    """Return a variable (or a header) with its value as the masker shows the value of that name."""
    from airflow.sdk._shared.secrets_masker import redact  # Airflow's public module masks logs only

    value = variable["value"]
    shown = redact(str(value), str(variable["name"]))
    return {**variable, "value": value if shown == str(value) else shown}


def masked(part: Any) -> Any:
    """Return a manifest, or a part of it, with its literal secrets masked."""
    from airflow.sdk._shared.secrets_masker import redact

    if isinstance(part, list | tuple):
        return [masked(each) for each in part]
    if not isinstance(part, Mapping):
        return part
    if part.get("value") is not None and "name" in part:
        return masked_variable(part)
    # The names of labels and annotations are the user's, those of all else are Kubernetes'.
    return {name: redact(each) if name in ("labels", "annotations") else masked(each) for name, each in part.items()}

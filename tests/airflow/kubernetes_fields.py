"""The fields of a pod's objects, from the installed kubernetes client. Run this file to add those that are missing."""

import json
import re
from pathlib import Path

from kubernetes.client import models

from airflow_bridge import kubernetes_object

TABLE = Path(kubernetes_object.__file__).with_suffix(".json")

Fields = dict[str, dict[str, str]]


def installed() -> Fields:
    """By kind: the API's name of each field, and the kind of the objects in it (empty: texts, numbers, their maps)."""
    found: Fields = {}
    _visit("V1Pod", found)
    return found


def _visit(kind: str, found: Fields) -> None:
    model = getattr(models, kind)
    found[kind] = {}
    for name, type_name in model.openapi_types.items():
        of = re.fullmatch(r"(?:list\[)?([A-Z]\w*)\]?", type_name)
        found[kind][model.attribute_map[name]] = of[1] if of else ""
        if of and of[1] not in found:
            _visit(of[1], found)


def written(fields: Fields) -> str:
    """One line for each kind."""
    lines = [f"{json.dumps(kind)}: {json.dumps(fields[kind], sort_keys=True)}" for kind in sorted(fields)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    known = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    TABLE.write_text(written({kind: known.get(kind, {}) | fields for kind, fields in (known | installed()).items()}))

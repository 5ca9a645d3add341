"""The generated part of docs/policy.md. ``python -m tests.docs.policy_table`` writes it anew; a test compares it."""

import re
from collections.abc import Iterator

from tests.docs.pages import ROOT
from worker.rules.pod_security import CONTROLS, Rule, SecurityControl

PAGE = ROOT / "docs" / "policy.md"


def _fields(rule: Rule) -> str:
    """The fields; those that each list of containers has, once."""
    own = [path for path in rule.paths if "ontainers[*]." not in path]
    of_containers = [path.partition("[*].")[2] for path in rule.paths if path.startswith("spec.containers[*].")]
    told = [f"`{path}`" for path in own] + [f"`{path}` of a container" for path in of_containers]
    return "<br>".join(told)


def _values(rule: Rule) -> str:
    if rule.refused:
        return "all but " + _listed(rule.refused)
    told = _listed(rule.allowed) or "none"
    if rule.paths[0].endswith(".drop"):
        told += " among them"
    return f"{told}, or not set where the pod's is" if rule.pod_default else told


def _listed(values: tuple[object, ...]) -> str:
    words = {"None": "not set", "": "empty", "True": "`true`", "False": "`false`"}
    return ", ".join(words.get(str(value), f"`{value}`") for value in values)


def _unless(control: SecurityControl) -> str:
    if control.exempt_pods is None:
        return ""
    path, value = control.exempt_pods
    return f"; any in a pod with `{path}: {str(value).lower()}`"


def _table() -> Iterator[str]:
    yield "| control | from level | fields | allowed |\n|---|---|---|---|"
    for control in CONTROLS:
        for i, rule in enumerate(control.rules):
            name = f"`{control.name}`" if i == 0 else ""
            level = control.level.name.lower() if i == 0 else ""
            yield f"| {name} | {level} | {_fields(rule)} | {_values(rule)}{_unless(control)} |"


def renewed(text: str) -> str:
    """The page with its generated part made anew."""
    made = "<!-- generated: controls -->\n\n" + "\n".join(_table()) + "\n\n<!-- end -->"
    text, found = re.subn("<!-- generated: controls -->.*?<!-- end -->", lambda _: made, text, count=1, flags=re.S)
    assert found == 1
    return text


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))

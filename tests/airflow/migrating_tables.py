"""The generated parts of docs/migrating-from-kpo.md. Run this file to write them anew; a test compares them."""

import re
from pathlib import Path

from airflow_bridge.parameters import ADDED, PARAMETERS, Ignored

PAGE = Path(__file__).parents[2] / "docs" / "migrating-from-kpo.md"


def parameters() -> str:
    """Every parameter of KPO's constructor, in alphabetical order."""
    rows = {
        name: (_ignored(each), each.why) if isinstance(each, Ignored) else ("as in KPO", each.note)
        for name, each in PARAMETERS.items()
    }
    return _table("parameter | what becomes of it | note", rows)


def _ignored(parameter: Ignored) -> str:
    return "ignored" if parameter.is_quiet else "ignored, with a warning"


def added() -> str:
    """The parameters that KPO does not have."""
    return _table("parameter | meaning", {name: (note,) for name, note in ADDED.items()})


def _table(heading: str, rows: dict[str, tuple[str, ...]]) -> str:
    columns = heading.count("|") + 1
    lines = [f"| {heading} |", "|" + "---|" * columns]
    lines += [" | ".join((f"| `{name}`", *cells)) + " |" for name, cells in sorted(rows.items())]
    return "\n".join(lines)


GENERATED = {"parameters": parameters, "added": added}


def renewed(text: str) -> str:
    """The page with its generated parts made anew."""
    for name, table in GENERATED.items():
        begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
        made = f"{begin}\n\n{table()}\n\n{end}".replace("\\", r"\\")
        text, found = re.subn(re.escape(begin) + r".*?" + re.escape(end), made, text, count=1, flags=re.S)
        assert found == 1, name
    return text


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))

"""The generated part of docs/architecture.md. Run this file to write it anew; a test compares it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("dispatcher", "worker", "airflow_bridge", "devcluster")


def layers() -> Iterator[tuple[str, str, list[list[str]]]]:
    """Each folder whose modules stand in layers: what import-linter calls that, and the layers from the top."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for contract in found["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            (container,) = contract["containers"]
            folder = container.replace(".", "/")
            named = ([name.strip(" ()") for name in layer.split("|")] for layer in contract["layers"])
            # A name in brackets may be missing.
            there = ([name for name in layer if _exists(ROOT / folder / name)] for layer in named)
            yield folder, contract["name"], [layer for layer in there if layer]


def layered() -> set[str]:
    """The files that stand in layers, and the folders."""
    paths = (f"{folder}/{name}" for folder, _, found in layers() for layer in found for name in layer)
    return {path if (ROOT / path).is_dir() else f"{path}.py" for path in paths}


def _exists(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").is_file()


def _told() -> Iterator[str]:
    for folder, name, found in layers():
        shown = "\n".join("  ".join(layer) for layer in found)
        yield f"`{folder}/`: {name}.\n\n```\n{shown}\n```"


def renewed(text: str) -> str:
    """The page with its generated part made anew."""
    made = "\n\n".join(["<!-- generated: layers -->", *_told(), "<!-- end -->"])
    text, found = re.subn("<!-- generated: layers -->.*?<!-- end -->", made, text, count=1, flags=re.S)
    assert found == 1
    return text


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))

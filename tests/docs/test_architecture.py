"""The page that a newcomer reads first says what the code is: every file that it names, its moves, keys and layers."""

import ast
import re
from collections import Counter
from inspect import getmembers, isfunction, signature
from itertools import product
from pathlib import Path

import pytest

from dispatcher import names
from dispatcher.record import DeletionIntent
from dispatcher.status import LEGAL_MOVES, Status
from tests.docs import layers
from tests.docs.pages import ROOT, page, rows, section
from worker.failpoints import Failpoint

TEXT = page("docs/architecture.md")
OURS = "worker|dispatcher|airflow_bridge|devcluster|tests|docs|deploy|benchmarks|examples"
#: Written by hand, for newcomers, about the code.
FOR_HEIRS = ["docs/architecture.md", "docs/glossary.md", "CONTRIBUTING.md", "AGENTS.md"]
PLACEHOLDERS = {"ID", "KEY", "QUEUE", "READER", "INCARNATION", "BYTES", "ATTEMPT", "CONTAINER"}
#: Words of the field that the pocket cluster, which nobody of ours imports, has for its own things too.
MEANT_TWICE = {"Container", "Store"}


def files_named(text: str) -> set[str]:
    """Paths from the root, and modules by their dotted names as paths."""
    dotted = re.findall(rf"`(?:python -m )?((?:{OURS})(?:\.[a-z_]+)+)`", text)
    return {*re.findall(rf"(?<![\w./-])(?:{OURS})/[\w./-]*[\w/]", text), *(name.replace(".", "/") for name in dotted)}


def modules(package: str) -> set[str]:
    paths = (path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py") if not path.name.startswith("__"))
    return {str(path) for path in paths}


@pytest.mark.parametrize("name", FOR_HEIRS)
def test_every_file_that_is_named_exists(name: str) -> None:
    missing = [path for path in files_named(page(name)) if not (ROOT / path).exists() and not module(path).exists()]
    assert missing == []


def module(path: str) -> Path:
    return ROOT / f"{path}.py"


@pytest.mark.parametrize("name", FOR_HEIRS)
def test_every_word_of_the_code_that_is_quoted_stands_in_the_code(name: str) -> None:
    quoted = {word for span in re.findall(r"`([^`\n]+)`", page(name)) for word in re.findall(r"[A-Za-z_]\w+", span)}
    code = "\n".join(path.read_text() for path in [*sources(), ROOT / "Makefile", ROOT / "pyproject.toml"])
    parts = {part for path in files_named(page(name)) for part in re.split(r"\W", path)}
    assert quoted - set(re.findall(r"[A-Za-z_]\w+", code)) - parts - PLACEHOLDERS == set()


def packages() -> list[Path]:
    return [path for package in layers.PACKAGES for path in (ROOT / package).rglob("__init__.py")]


def sources() -> list[Path]:
    return [p for package in layers.PACKAGES for p in (ROOT / package).rglob("*") if p.suffix in (".py", ".lua")]


def test_what_others_load_by_its_path_is_there() -> None:
    named = re.findall(rf"`((?:{OURS})(?:\.[a-z_]+)+)\.([A-Z]\w+)`", section(TEXT, "## Never"))
    assert len(named) >= 5
    for name, of_class in named:
        tree = ast.parse(module(name.replace(".", "/")).read_text())
        assert of_class in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}, name


def test_the_layers_are_those_that_the_build_holds() -> None:
    assert layers.renewed(TEXT) == TEXT, "run tests/docs/layers.py"


def test_every_module_of_the_worker_and_every_room_is_named() -> None:
    rooms = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("[adw]*/*/__init__.py")}
    told = files_named(TEXT) | layers.layered()
    assert modules("worker") - told == set()
    assert rooms - told - {str(Path(path).parent) for path in told} == set()


@pytest.mark.parametrize("heading", re.findall("^### From .*$", TEXT, re.M))
def test_a_walk_names_a_module_once(heading: str) -> None:
    named = Counter(re.findall(r"`([\w/]+\.(?:py|lua))`", section(TEXT, heading)))
    assert len(named) > 15
    assert {path for path, times in named.items() if times > 1} == set()


def test_who_moves_a_job_is_told_of_every_legal_move() -> None:
    moves = [
        cells
        for cells in rows(section(TEXT, "## Statuses, and who moves them"))
        if cells[0].split(",")[0] in Status.__members__
    ]
    told = {pair for cells in moves for pair in product(cells[0].split(", "), cells[1].split(", "))}
    legal = {(a.value, b.value) for a, targets in LEGAL_MOVES.items() for b in targets if b is not a}
    assert told == legal


def test_the_diagram_of_statuses_has_only_legal_moves_and_all_statuses() -> None:
    drawn = re.findall(r"^  ([A-Z]+) --> ([A-Z]+)", TEXT, re.M)
    assert all(Status(target) in LEGAL_MOVES[Status(source)] for source, target in drawn)
    assert {name for move in drawn for name in move} == set(Status)


def test_the_intents_are_told() -> None:
    first = {cells[0].strip("`") for cells in rows(section(TEXT, "## Statuses, and who moves them"))}
    assert first >= set(DeletionIntent)


def test_every_failpoint_stands_in_its_phase() -> None:
    told = [re.findall(r"`(\w+)`", cells[2]) for cells in rows(section(TEXT, "## The life of a job"))]
    assert {name for phase in told for name in phase} == set(Failpoint)


def test_the_keys_are_those_that_are_made() -> None:
    told = set(re.findall(r"`(podrelay:[^`…]+)`", section(TEXT, "## Keys in Redis")))
    asked = {"job_id": "ID", "queue": "QUEUE", "idempotency_key": "KEY", "memory_limit_bytes": "BYTES"}
    makers = [make for _, make in getmembers(names, isfunction) if make.__module__ == names.__name__]
    made = [
        make(**{p: asked.get(p, p.upper()) for p in signature(make).parameters if p != "priority"})
        for make in makers
        if set(signature(make).parameters) <= {*asked, "incarnation", "reader"}
    ]
    ours = {key for key in made if key.startswith(names.PREFIX)} | {names.GENERATION}
    # What scripts alone know.
    scripts = "\n".join(path.read_text() for path in (ROOT / "dispatcher" / "lua").glob("*.lua"))
    assert told == ours | set(re.findall(r"'(podrelay:(?:run|nothing))'", scripts))
    for begins in re.findall(r"'(podrelay:[^']+)'", scripts):
        assert any(key.startswith(begins) for key in [*told, names.CELERY_PREFIX]), begins


def test_every_word_of_the_glossary_stands_where_it_is_said_to_live() -> None:
    words = [cells for cells in rows(page("docs/glossary.md")) if cells[2].startswith("`")]
    lacking = [
        (word, path)
        for told, _, path in words
        for word in told.split(", ")
        if not stands_in(word, path + (ROOT / path.strip("`")).read_text())
    ]
    assert lacking == []
    assert len(words) > 50


def stands_in(word: str, text: str) -> bool:
    """Also with a dash, an underscore or nothing between its parts, in the plural, and across two lines."""
    parts = re.escape(word.lower()).replace(r"\ ", r"[\W_]*").replace(r"\-", r"[\W_]*")
    return re.search(parts, text.lower()) is not None


def test_a_class_has_one_meaning() -> None:
    found = Counter(
        node.name
        for path in sources()
        if path.suffix == ".py"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, times in found.items() if times > 1} <= MEANT_TWICE


@pytest.mark.parametrize("package", sorted(str(path.parent.relative_to(ROOT)) for path in packages()))
def test_a_package_says_what_each_of_its_modules_is_for(package: str) -> None:
    told = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())) or ""
    inside = {
        path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    lacking = [
        name for name in inside if not name.startswith("__") and not re.search(rf"(?m)`{name}`|^ *{name}  ", told)
    ]
    assert lacking == []

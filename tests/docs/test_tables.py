"""What the documentation lists is what the code has: nothing missing, nothing more, the same defaults."""

import re
from pathlib import Path

import pytest

from dispatcher.cli.exits import MEANING
from dispatcher.settings import ClientSettings
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason
from tests.docs.pages import PAGES, ROOT, page, rows, section
from worker.cluster import kubeconfig_file
from worker.settings import WorkerSettings


def shown(value: object) -> str:
    """A default as the tables write it."""
    if value in (None, (), {}, frozenset()):
        return ""
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_every_setting_stands_in_the_readme_with_its_default() -> None:
    listed = {
        cells[0]: cells[1] for cells in rows(section(page("README.md"), "### Settings")) if "PODRELAY" in cells[0]
    }
    fields = {f"`PODRELAY_{name.upper()}`": field for name, field in WorkerSettings.model_fields.items()}
    assert listed.keys() == fields.keys()
    for name, field in fields.items():
        told = listed[name] if listed[name].startswith("`") else ""
        expected = "" if field.default_factory else shown(field.default)
        assert told == expected, name


def test_the_settings_of_a_caller_come_before_those_of_a_worker() -> None:
    before, _, after = section(page("README.md"), "### Settings").partition("A worker also reads these")
    for name in WorkerSettings.model_fields:
        assert f"`PODRELAY_{name.upper()}`" in (before if name in ClientSettings.model_fields else after)


def test_the_exit_codes_of_the_readme_are_those_of_the_command() -> None:
    listed = [cells for cells in rows(section(page("README.md"), "## Exit codes")) if cells[0].isdigit()]
    assert listed == [(str(code.value), meaning) for code, meaning in MEANING.items()]


def test_every_failure_reason_stands_with_the_one_whose_turn_it_is() -> None:
    whose = {
        reason: cells[1].removeprefix("the job's own code").strip() or "user code"
        for cells in rows(section(page("README.md"), "## When a job fails"))
        for reason in re.findall(r"`(\w+)`", cells[0])
    }
    assert whose == {reason.value: reason.traits.blame.value for reason in FailureReason}


def test_every_field_of_a_spec_stands_in_the_reference_with_its_default() -> None:
    listed = {cells[0].strip("`"): cells[1] for cells in rows(page("docs/spec.md")) if cells[0].startswith("`")}
    assert listed.keys() == JobSpec.model_fields.keys()
    for name, field in JobSpec.model_fields.items():
        assert listed[name] == ("random" if field.default_factory else shown(field.default)), name


def test_every_field_of_a_kubeconfig_stands_in_the_operations_page() -> None:
    entries = (
        kubeconfig_file.ClusterEntry,
        kubeconfig_file.UserEntry,
        kubeconfig_file.ContextEntry,
        kubeconfig_file.ExecEntry,
    )
    known = {field.alias for entry in entries for field in entry.model_fields.values()}
    assert known - set(re.findall(r"`([^`]+)`", section(page("docs/operations.md"), "## The cluster"))) == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_files_that_the_readme_names_exist() -> None:
    for name in re.findall(r"`([\w./-]+/[\w.-]*|[\w-]+\.(?:yml|txt|md))`", page("README.md")):
        assert (ROOT / name).exists(), name


def test_the_tests_that_the_guarantees_name_exist() -> None:
    text = page("docs/guarantees.md")
    named = re.findall(r"`(?:tests/)?([\w/]*test_\w+)(?:\.py)?`", text)
    there = {str(path.relative_to(ROOT / "tests").with_suffix("")) for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(named) > 20
    assert [name for name in named if name not in there | {Path(path).name for path in there}] == []

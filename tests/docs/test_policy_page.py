"""The page on the policy says what the worker refuses, and what opens it."""

import re

from tests.docs import policy_table
from tests.docs.pages import blocks, page, rows, section
from worker.rules.pod_security import CONTROLS
from worker.rules.policy import policy_of
from worker.settings import WorkerSettings

TEXT = page("docs/policy.md")


def test_the_table_of_controls_is_that_of_the_code() -> None:
    assert policy_table.renewed(TEXT) == TEXT, "run: python -m tests.docs.policy_table"
    named = [name for name, *_ in rows(section(TEXT, "## The Pod Security Standards")) if name.startswith("`")]
    assert named == [f"`{control.name}`" for control in CONTROLS]


def test_the_example_is_a_setting_that_a_worker_takes() -> None:
    (example,) = blocks(TEXT, "sh")
    name, _, value = example.strip().partition("=")
    assert name == "PODRELAY_POD_SECURITY_EXEMPT"
    given = WorkerSettings.from_environment({}, pod_security_exempt=value)
    assert policy_of(given, frozenset()).exempt == set(value.split(","))


def test_the_settings_that_it_names_exist() -> None:
    known = {f"PODRELAY_{name.upper()}" for name in WorkerSettings.model_fields}
    assert set(re.findall(r"PODRELAY_[A-Z_]+", TEXT)) <= known

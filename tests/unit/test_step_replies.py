"""What the scripts answer and what the steps understand are the same words."""

import re
from enum import StrEnum
from importlib import resources

import pytest

from dispatcher import steps
from dispatcher.status import Status
from dispatcher.steps import AcknowledgeOutcome, CancelOutcome, ExpireOutcome, ForgetOutcome


def words_returned(script: str) -> set[str]:
    """Find the words in a script's `return` statements (scripts that answer with one word)."""
    text = (resources.files("dispatcher") / "lua" / f"{script}.lua").read_text()
    code = re.sub(r"--.*", "", text)
    return {word for line in re.findall(r"return (.*)", code) for word in re.findall(r"'([a-z_]+)'", line)}


@pytest.mark.parametrize(
    ("script", "outcomes"),
    [
        ("forget", set(ForgetOutcome)),
        ("expire", set(ExpireOutcome)),
        ("cancel", set(CancelOutcome)),
        ("acknowledge", set(AcknowledgeOutcome) - {AcknowledgeOutcome.ACKNOWLEDGED}),
    ],
)
def test_a_script_answers_with_the_words_that_its_step_knows(script: str, outcomes: set[StrEnum]) -> None:
    assert words_returned(script) == outcomes


@pytest.mark.parametrize("status", [*(x.value for x in Status if x.is_final), "FINISHED_IN_A_NEWER_WAY"])
def test_the_status_that_answers_an_acknowledgement_says_that_it_counted(status: str) -> None:
    assert steps.acknowledge("j1").decode(status.encode()) is AcknowledgeOutcome.ACKNOWLEDGED

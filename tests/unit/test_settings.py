"""Settings come from PODRELAY_* variables, checked whole."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import SettingsError
from dispatcher.redis_url import mask_url
from dispatcher.settings import PREFIX, READ_ELSEWHERE, ClientSettings
from tests.docs.pages import ROOT, page
from worker.settings import WorkerSettings


def variables_of_the_worker() -> set[str]:
    return {PREFIX + name.upper() for name in WorkerSettings.model_fields.keys() - ClientSettings.model_fields.keys()}


def variables_of_the_compose_file() -> set[str]:
    return set(re.findall(r"^PODRELAY_[A-Z0-9_]+", page(".env"), re.MULTILINE))


def variables_of_the_tests() -> set[str]:
    texts = (path.read_text() for folder in ("tests", "worker") for path in (ROOT / folder).rglob("*.py"))
    return {name for text in texts for name in re.findall(r"PODRELAY_TEST_[A-Z0-9_]*[A-Z0-9]", text)}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*READ_ELSEWHERE, *(PREFIX + x.upper() for x in ClientSettings.model_fields)]:
        monkeypatch.delenv(name, raising=False)


def test_variables_are_read_and_flags_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODRELAY_QUEUE", "gpu")
    monkeypatch.setenv("PODRELAY_REDIS_TIMEOUT_S", "2.5")
    assert ClientSettings.from_environment().queue == "gpu"
    assert ClientSettings.from_environment().redis_timeout_s == 2.5
    assert ClientSettings.from_environment(queue="cpu", installation=None).queue == "cpu"


def test_a_misspelled_variable_stops_the_process_with_the_nearest_known_name() -> None:
    with pytest.raises(SettingsError, match=r"PODRELAY_REDIS_ULR: no such setting \(did you mean 'PODRELAY_REDIS_URL'"):
        ClientSettings.from_environment({"PODRELAY_REDIS_ULR": "x", "HOME": "/"})
    with pytest.raises(SettingsError, match="'PODRELAY_MAX_JOBS'"):
        ClientSettings.from_environment({"PODRELAY_MAXJOBS": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PODRELAY_QUEUE", "Not A Queue"),
        ("PODRELAY_REDIS_TIMEOUT_S", "0"),
        ("PODRELAY_REDIS_RETRIES", "-1"),
        ("PODRELAY_INSTALLATION", "under_score"),
    ],
)
def test_an_unusable_value_is_named_with_what_was_found(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        ClientSettings.from_environment()
    assert str(raised.value).startswith(f"{name}: ")
    assert value in str(raised.value)


@pytest.mark.parametrize(
    "template",
    [
        "https://logs/{podname}",
        "https://logs/{0}",
        "https://logs/{}",
        "https://logs/{pod.__class__}",
        "https://logs/{pod[0]}",
        "https://logs/{pod:{width}}",
        "https://logs/{pod:{pod}}",
        "https://logs/{pod!x}",
        "https://logs/{pod:d}",
        "https://logs/{pod",
        "https://logs/}",
    ],
)
def test_a_template_of_log_urls_that_would_fail_at_each_job_s_end_stops_the_worker_at_its_start(template: str) -> None:
    with pytest.raises(SettingsError, match="PODRELAY_LOG_URL_TEMPLATE: "):
        WorkerSettings.from_environment({}, log_url_template=template)


def test_an_unknown_name_in_a_template_is_told_with_those_that_are_known() -> None:
    with pytest.raises(SettingsError, match=r"\{podname\} cannot be put there; known are \{namespace\}, \{pod\}"):
        WorkerSettings.from_environment({}, log_url_template="https://logs/{podname}")


def test_a_template_of_log_urls_may_use_every_name_and_braces() -> None:
    template = "https://logs/{namespace}/{pod}/{pod_uid}/{container}/{job_id}/{attempt:03d}?q={{x}}"
    assert WorkerSettings.from_environment({}, log_url_template=template).log_url_template == template


def test_an_unusable_url_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODRELAY_REDIS_URL", "http://:hunter2@example")
    with pytest.raises(SettingsError, match="PODRELAY_REDIS_URL: must be a URL that begins with redis://") as raised:
        ClientSettings.from_environment()
    assert "hunter2" not in str(raised.value)


def test_variables_read_elsewhere_are_exactly_those_of_the_other_parts() -> None:
    of_others = variables_of_the_worker() | variables_of_the_compose_file() | variables_of_the_tests()
    assert of_others == READ_ELSEWHERE


def test_every_variable_that_the_code_names_is_a_setting() -> None:
    named = {
        name
        for folder in ("worker", "airflow_bridge", "devcluster")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"(?<![A-Z_])PODRELAY_[A-Z0-9_]*[A-Z0-9]", path.read_text())
    }
    assert named <= READ_ELSEWHERE | {PREFIX + name.upper() for name in ClientSettings.model_fields}


def test_the_worker_knows_the_callers_variables_too() -> None:
    assert WorkerSettings.from_environment({"PODRELAY_QUEUE": "x", "PODRELAY_MAX_JOBS": "1"})


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://user@h", "redis://user@h"),
        ("redis://:secret@h:1/0", "redis://:***@h:1/0"),
        ("rediss://user:secret@[::1]:1/0?x=y", "rediss://user:***@[::1]:1/0?x=y"),
        ("redis://h/0?password=secret&db=1", "redis://h/0?password=***&db=1"),
        ("unix://user:secret@/tmp/s.sock", "unix://user:***@/tmp/s.sock"),
    ],
)
def test_passwords_are_masked(url: str, masked: str) -> None:
    assert mask_url(url) == masked


@given(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda x: x not in "redis://user:***@host:6379/0"))
def test_no_password_gets_through_however_badly_it_is_quoted(password: str) -> None:
    assert password not in mask_url(f"redis://user:{password}@host:6379/0")


def test_settings_show_no_password() -> None:
    settings = ClientSettings(redis_url="redis://:hunter2@h:1/0")
    assert "hunter2" not in repr(settings) + str(settings)
    assert settings.masked_redis_url == "redis://:***@h:1/0"

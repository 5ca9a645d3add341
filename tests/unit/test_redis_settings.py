"""Where Redis is, by variables: a URL or a file that holds one, and what TLS needs."""

import logging
import os
from pathlib import Path

import pytest

from dispatcher.errors import SettingsError
from dispatcher.redis_endpoint import RedisEndpoint
from dispatcher.redis_url import Tls, parse_redis_url
from dispatcher.settings import ClientSettings
from tests.support.certificates import Authority
from tests.support.mounted_secret import MountedSecret


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PODRELAY_"):
            monkeypatch.delenv(name)


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MountedSecret:
    made = MountedSecret(tmp_path, "redis://me:walrus@h:1/2\n")
    monkeypatch.setenv("PODRELAY_REDIS_URL_FILE", str(made.path))
    return made


def why_not(**overrides: str) -> str:
    with pytest.raises(SettingsError) as raised:
        ClientSettings.from_environment(**overrides)
    assert "walrus" not in str(raised.value)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_file_says_where_redis_is_and_its_last_newline_does_not_count(secret: MountedSecret) -> None:
    endpoint = ClientSettings.from_environment().redis
    assert endpoint.address == parse_redis_url("redis://me:walrus@h:1/2")
    assert endpoint.shown == "redis://me:***@h:1/2"


def test_a_url_and_a_file_are_one_too_many(secret: MountedSecret, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODRELAY_REDIS_URL", "redis://walrus@h")
    assert why_not() == "PODRELAY_REDIS_URL and PODRELAY_REDIS_URL_FILE are both set: one of them must go"


def test_a_flag_wins_over_both(secret: MountedSecret, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODRELAY_REDIS_URL", "redis://walrus@h")
    assert ClientSettings.from_environment(redis_url="redis://flag").redis.shown == "redis://flag:6379/0"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("walrus\n", "must be a URL that begins with redis://"),
        ("redis://:walrus@h\n\n", "has a space or control character"),
        ("redis://:walrus@h/abc", "the database must be a number"),
        (b"redis://:\xffwalrus@h", "is no UTF-8 text"),
        ("redis://:walrus@h/0?" + "x" * 70_000, "is too large for a URL"),
    ],
)
def test_a_file_that_holds_no_url_is_told_with_its_path(secret: MountedSecret, text: str | bytes, why: str) -> None:
    secret.write(text)
    told = why_not()
    assert told.startswith(f"PODRELAY_REDIS_URL_FILE: {secret.path}: {why}")


def test_what_is_no_file_is_told_and_never_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in (
        (str(tmp_path / "none"), "No such file or directory"),
        (str(tmp_path), "is no regular file"),
        (str(tmp_path / "pipe"), "is no regular file"),
        ("/dev/zero", "is no regular file"),
        ("x" * 300, "File name too long"),
    ):
        monkeypatch.setenv("PODRELAY_REDIS_URL_FILE", path)
        assert why_not() == f"PODRELAY_REDIS_URL_FILE: {path}: {why}"
    monkeypatch.setenv("PODRELAY_REDIS_URL_FILE", "")
    assert why_not().startswith("PODRELAY_REDIS_URL_FILE: ")


def test_each_new_connection_is_whom_the_file_names_then(secret: MountedSecret) -> None:
    endpoint = ClientSettings.from_environment().redis
    assert endpoint.account() == ("me", "walrus")
    secret.write("redis://me:second@h:1/2")
    assert endpoint.account() == ("me", "second")
    secret.write("redis://:alone@h:1/2")
    assert endpoint.account() == ("alone",)
    secret.write("redis://h:1/2")
    assert endpoint.account() == ()


def test_a_file_that_goes_wrong_changes_nothing_and_is_told_once(
    secret: MountedSecret, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = ClientSettings.from_environment().redis
    with caplog.at_level(logging.WARNING):
        for text in ("", "", "redis://me:second@h:1/2", "rubbish", "rubbish"):
            secret.write(text)
            assert endpoint.account()[0] == "me"
    assert endpoint.account() == ("me", "second")
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        f"{secret.path}: is empty; the account that was read before is used on",
        f"{secret.path}: must be a URL that begins with redis://, rediss:// or unix://; "
        "the account that was read before is used on",
    ]


def test_another_server_is_not_told_this_one_s_password(
    secret: MountedSecret, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = ClientSettings.from_environment().redis
    for url in ("redis://me:other@elsewhere:1/2", "redis://me:other@h:1/3", "rediss://me:other@h:1/2"):
        secret.write(url)
        assert endpoint.account() == ("me", "walrus")
    assert "names another server now, redis://me:***@elsewhere:1/2; this process stays at redis://me:***@h:1/2" in (
        caplog.records[0].getMessage()
    )


def test_endpoints_are_equal_where_they_lead_to_the_same_account() -> None:
    here, there = (RedisEndpoint(parse_redis_url(f"redis://:{x}@h")) for x in ("a", "b"))
    assert here == RedisEndpoint(parse_redis_url("redis://:a@h:6379/0"))
    assert hash(here) == hash(RedisEndpoint(parse_redis_url("redis://:a@h:6379/0")))
    assert here != there


# TLS


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """An authority, a certificate with its key, and the key of another."""
    authority = Authority()
    mine, other = authority.client("me"), authority.client("other")
    made = {"ca": authority.pem, "cert": mine.certificate, "key": mine.key, "other_key": other.key}
    for name, pem in made.items():
        (tmp_path / f"{name}.pem").write_bytes(pem)
    return {name: str(tmp_path / f"{name}.pem") for name in made}


def test_variables_name_what_a_url_does_not(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODRELAY_REDIS_CA_FILE", files["ca"])
    monkeypatch.setenv("PODRELAY_REDIS_CERT_FILE", files["cert"])
    monkeypatch.setenv("PODRELAY_REDIS_KEY_FILE", files["key"])
    tls = ClientSettings.from_environment(redis_url="rediss://h").redis.address.tls
    assert tls == Tls(ca_file=files["ca"], cert_file=files["cert"], key_file=files["key"])
    url = f"rediss://h?ssl_certfile={files['cert']}&ssl_keyfile={files['key']}"
    monkeypatch.setenv("PODRELAY_REDIS_CERT_FILE", "/nothing/is/read/here")
    tls = ClientSettings.from_environment(redis_url=url).redis.address.tls
    assert tls == Tls(ca_file=files["ca"], cert_file=files["cert"], key_file=files["key"])


def test_a_file_that_tls_cannot_use_is_told_by_where_it_was_named(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "rediss://:walrus@h"
    told = why_not(redis_url=f"{url}?ssl_ca_certs=/none")
    assert told == "PODRELAY_REDIS_URL: option ssl_ca_certs: /none: No such file or directory"
    assert "PODRELAY_REDIS_URL: option ssl_ca_certs: " in why_not(redis_url=f"{url}?ssl_ca_certs={files['key']}")
    told = why_not(redis_url=f"{url}?ssl_certfile={files['cert']}&ssl_keyfile={files['other_key']}")
    assert "KEY_VALUES_MISMATCH" in told
    monkeypatch.setenv("PODRELAY_REDIS_CA_FILE", "/none")
    assert why_not(redis_url=url) == "PODRELAY_REDIS_CA_FILE: /none: No such file or directory"
    monkeypatch.setenv("PODRELAY_REDIS_CA_FILE", files["ca"])
    monkeypatch.setenv("PODRELAY_REDIS_KEY_FILE", files["key"])
    assert why_not(redis_url=url) == "PODRELAY_REDIS_KEY_FILE needs PODRELAY_REDIS_CERT_FILE"


def test_nobody_who_names_an_authority_goes_without_tls(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODRELAY_REDIS_CA_FILE", files["ca"])
    monkeypatch.setenv("PODRELAY_REDIS_URL", "redis://:walrus@h")
    assert why_not() == "PODRELAY_REDIS_CA_FILE is set, and Redis' URL does not begin with rediss://"
    # A connection of Airflow's may be another server's.
    assert ClientSettings.from_environment(redis_url="redis://h").redis.address.tls is None

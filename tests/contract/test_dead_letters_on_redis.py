"""Dead letters are bounded in every way, on fakeredis and on every real server at hand."""

import json
import time

import pytest
import redis

from dispatcher import dead_letter, names
from dispatcher.dead_letter import encode_letter, set_aside
from dispatcher.settings import ClientSettings
from tests.support.job_driver import RedisDriver
from worker.queue.dead_letters import DeadLetters
from worker.queue.gate import Refusal

LIST, SIZE = names.dead_letters("q"), names.dead_letters_size("q")


def letter(number: int, *, age_s: float = 0, size: int = 10) -> str:
    return encode_letter(b"x" * size, reason=f"reason {number}", queue="q", at=time.time() - age_s)


def kept(store: RedisDriver) -> list[int]:
    """The numbers of the letters, the newest first."""
    return [int(json.loads(text)["reason"].split()[1]) for text in store.client.lrange(LIST, 0, -1)]


def check_size(store: RedisDriver) -> None:
    letters = store.client.lrange(LIST, 0, -1)
    assert store.client.get(SIZE) == f"{len(letters)} {sum(map(len, letters))}".encode()


def test_the_newest_are_kept_and_all_of_them_end(store: RedisDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letter, "KEPT", 3)
    for number in range(5):
        store.run(set_aside(letter(number), queue="q"))
    assert kept(store) == [4, 3, 2]
    check_size(store)
    for key in (LIST, SIZE):
        assert 0 < store.client.ttl(key) <= dead_letter.KEPT_S


def test_all_of_them_have_so_many_bytes_at_most(store: RedisDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letter, "KEPT_BYTES", 5000)
    for number in range(10):
        store.run(set_aside(letter(number, size=1000), queue="q"))
    assert kept(store) == [9, 8, 7]
    check_size(store)


def test_a_letter_that_alone_is_too_large_is_kept_alone(store: RedisDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letter, "KEPT_BYTES", 10)
    for number in range(3):
        store.run(set_aside(letter(number), queue="q"))
    assert kept(store) == [2]


def test_old_letters_go_when_a_new_one_comes(store: RedisDriver) -> None:
    for number, age_s in enumerate((dead_letter.KEPT_S + 10, dead_letter.KEPT_S + 5, 100, 0)):
        store.client.lpush(LIST, letter(number, age_s=age_s))
    store.run(set_aside(letter(9), queue="q"))
    assert kept(store) == [9, 3, 2]
    check_size(store)


def test_what_others_have_written_to_the_list_is_counted_and_bounded_too(
    store: RedisDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter, "KEPT_BYTES", 5000)
    store.run(set_aside(letter(0), queue="q"))
    store.client.lpush(LIST, *(letter(1, size=100_000) for _ in range(5)), b"no JSON", b"[" * 2000, letter(2))
    store.run(set_aside(letter(3), queue="q"))
    assert [text[:1] for text in store.client.lrange(LIST, 0, -1)] == [b"{", b"{", b"[", b"n"]
    check_size(store)
    store.client.set(SIZE, "rubbish")
    store.run(set_aside(letter(4), queue="q"))
    check_size(store)


def test_of_a_long_message_the_beginning_is_kept_and_what_identifies_it() -> None:
    message = b"y" * 1_000_000
    found = json.loads(encode_letter(message, reason="r" * 100_000, queue="q", at=1.5))
    assert len(json.dumps(found)) < 100_000
    assert (found["size"], found["sha256"]) == (1_000_000, dead_letter.sha256(message))


@pytest.mark.parametrize("key", [LIST, SIZE])
def test_a_key_of_another_type_ends_nobody(redis_url: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.hset(key, "a", "b")
    letters = DeadLetters(ClientSettings.from_environment({}, redis_url=redis_url, queue="q"))
    letters.put(b"CANARY", Refusal("why", {"id": "me"}))
    told = capsys.readouterr().out
    assert "message set aside" in told
    assert dead_letter.sha256(b"CANARY") in told
    assert "CANARY" not in told
    assert ("message lost" in told) == (key == LIST)


def test_redis_away_ends_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    url = "redis://127.0.0.1:1/0"
    DeadLetters(ClientSettings.from_environment({}, redis_url=url, redis_retries=0)).put(b"x", Refusal("why"))
    assert "message lost" in capsys.readouterr().out

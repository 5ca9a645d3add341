"""What a server's INFO says of whether podrelay can use it."""

import pytest

from dispatcher.redis_server import UNKNOWN, judge_server

WELL = "# Server\r\nredis_version:7.2.4\r\nredis_mode:standalone\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n"


@pytest.mark.parametrize(
    "info",
    [
        "",
        "rubbish\x00\r\nx",
        WELL,
        WELL + "cluster_enabled:0\r\n",
        "redis_version:6.2.14\r\n",
        "redis_version:255.255.255\r\n",
        "redis_version:unknown\r\n",
        # A replica that may be written to is somebody's wish.
        "role:slave\r\nslave_read_only:0\r\n",
    ],
)
def test_a_server_is_well_unless_it_says_otherwise(info: str) -> None:
    assert judge_server(info) == UNKNOWN


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (WELL + "cluster_enabled:1\r\n", "it is a Redis Cluster"),
        ("redis_mode:cluster\r\n", "it is a Redis Cluster"),
        ("redis_version:7.0.0\r\nredis_mode:sentinel\r\n", "it is a Sentinel and keeps no data"),
        ("redis_version:6.0.16\r\n", "it is Redis 6.0.16: podrelay needs 6.2 or newer"),
        ("redis_version:2.8\r\n", "it is Redis 2.8: podrelay needs 6.2 or newer"),
    ],
)
def test_what_can_never_be_used_is_named(info: str, why: str) -> None:
    server = judge_server(info)
    assert server.refusal is not None
    assert server.refusal.startswith(why)


def test_a_read_only_replica_is_named_with_its_primary() -> None:
    info = "role:slave\r\nmaster_host:10.0.0.7\r\nmaster_port:6379\r\nslave_read_only:1\r\n"
    found = judge_server(info)
    assert found.absence == "it is a read-only replica (of 10.0.0.7:6379): give an address that follows the primary"
    assert found.refusal is None


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_server_that_evicts_is_dangerous(policy: str) -> None:
    danger = judge_server(f"maxmemory_policy:{policy}\r\n").danger
    assert danger == f"Redis may evict keys and lose jobs: set maxmemory-policy noeviction (found {policy})"

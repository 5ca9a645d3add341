"""What may be wrong with a Redis server, as its INFO tells: whether podrelay can use it, and what may lose jobs."""

import re
from dataclasses import dataclass
from typing import Final

#: An older Redis lets an ACL user of ours reach every Pub/Sub channel but those it names (``resetchannels`` and ``&``
#: came with 6.2), and no test of ours runs on it.
OLDEST_SERVER: Final = (6, 2)


@dataclass(frozen=True, slots=True)
class Server:
    """What was found. ``refusal``: it can never be used; ``absence``: not now; ``danger``: it may lose jobs."""

    refusal: str | None = None
    absence: str | None = None
    danger: str | None = None


#: A server that does not tell what it is, mostly because its ACL does not let us ask.
UNKNOWN: Final = Server()


def judge_server(info: str) -> Server:
    """Judge a server by what its INFO says; what it does not say is taken to be well."""
    found = dict(re.findall(r"^(\w+):(.*?)\r?$", info, re.MULTILINE))
    return Server(refusal=_refusal(found), absence=_absence(found), danger=_danger(found))


def _refusal(found: dict[str, str]) -> str | None:
    if found.get("cluster_enabled") == "1" or found.get("redis_mode") == "cluster":
        return (
            "it is a Redis Cluster, which keeps the keys of one step on different nodes: "
            "give the address of a single Redis or Valkey, with replicas if need be"
        )
    if found.get("redis_mode") == "sentinel":
        return "it is a Sentinel and keeps no data: give an address that follows the primary"
    version = re.match(r"(\d+)\.(\d+)", found.get("redis_version", ""))
    if version and (int(version[1]), int(version[2])) < OLDEST_SERVER:
        oldest = ".".join(map(str, OLDEST_SERVER))
        return f"it is Redis {found['redis_version'][:20]}: podrelay needs {oldest} or newer, upgrade it"
    return None


def _absence(found: dict[str, str]) -> str | None:
    if found.get("role") == "slave" and found.get("slave_read_only", "1") == "1":
        at = f"{found.get('master_host', '?')[:100]}:{found.get('master_port', '?')[:5]}"
        return f"it is a read-only replica (of {at}): give an address that follows the primary"
    return None


def _danger(found: dict[str, str]) -> str | None:
    policy = found.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return None
    return f"Redis may evict keys and lose jobs: set maxmemory-policy noeviction (found {policy[:30]})"

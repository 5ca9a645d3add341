"""What tests can have go wrong at the API's door: refusals, outages, replies that never arrive."""

import asyncio

from aiohttp import web

from devcluster.answers import Declined


class Faults:
    """Faults that are in force now."""

    def __init__(self) -> None:
        self.denied: set[tuple[str, str, str]] = set()
        """Verbs, resources (`pods/log`) and namespaces ("" for all) that RBAC allows nobody."""
        self._out_until = 0.0
        self._lost_replies: dict[tuple[str, str], int] = {}

    def is_denied(self, verb: str, resource: str, namespace: str) -> bool:
        """Whether RBAC says no."""
        return not self.denied.isdisjoint({(verb, resource, ""), (verb, resource, namespace)})

    def begin_outage(self, seconds: float) -> None:
        """Answer 503 to everything for a while."""
        self._out_until = asyncio.get_running_loop().time() + seconds

    def check_outage(self) -> None:
        """Raise `Declined` (503) during an outage."""
        if asyncio.get_running_loop().time() < self._out_until:
            raise Declined(503, "ServiceUnavailable", "apiserver not ready")

    def lose_replies(self, verb: str, resource: str, times: int) -> None:
        """Carry out the next requests of this kind, but cut the connection instead of answering."""
        self._lost_replies[verb, resource] = times

    def cut_if_lost(self, request: web.Request, verb: str, resource: str) -> None:
        """Cut the connection of a request whose reply is to be lost."""
        left = self._lost_replies.get((verb, resource), 0)
        if left and request.transport is not None:
            self._lost_replies[verb, resource] = left - 1
            request.transport.abort()

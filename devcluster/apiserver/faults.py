"""Faults that tests inject into the API: denials, outages, a proxy in front, lost replies."""

import asyncio

from aiohttp import web

from devcluster.apimachinery.errors import StatusError

_PAGES = {
    "html": (
        "text/html",
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
    ),
    "json": ("application/json", '{{"error": "no healthy upstream", "status": {status}}}'),
    "empty": ("text/plain", ""),
}


class Faults:
    """Faults that are in force now."""

    def __init__(self) -> None:
        #: Verbs, resources (``pods/log``) and namespaces ("" for all) that RBAC allows nobody.
        self.denied: set[tuple[str, str, str]] = set()
        #: What RBAC allows, in the same words; None: everything.
        self.granted: set[tuple[str, str, str]] | None = None
        self._out_until = 0.0
        self._lost_replies: dict[tuple[str, str], int] = {}
        self._proxy_until = 0.0
        self._proxy_page = (0, "")

    def is_denied(self, verb: str, resource: str, namespace: str) -> bool:
        """Return whether RBAC denies it."""
        if self.granted is not None and (verb, resource, namespace) not in self.granted:
            return True
        return not self.denied.isdisjoint({(verb, resource, ""), (verb, resource, namespace)})

    def begin_outage(self, seconds: float) -> None:
        """Answer 503 to everything for a while."""
        self._out_until = asyncio.get_running_loop().time() + seconds

    def check_outage(self) -> None:
        """Refuse everything during an outage.

        Raises:
            StatusError: 503.
        """
        if asyncio.get_running_loop().time() < self._out_until:
            raise StatusError(503, "ServiceUnavailable", "apiserver not ready")

    def begin_proxy(self, status: int, seconds: float, *, kind: str) -> None:
        """Answer everything for a while as a proxy does that cannot reach the API server.

        Raises:
            ValueError: ``kind`` is not html, json or empty, or there is no such status.
        """
        if kind not in _PAGES or not 200 <= status <= 599:
            raise ValueError(f"a proxy answers with status 200 to 599 and {', '.join(_PAGES)}")
        self._proxy_page = (status, kind)
        self._proxy_until = asyncio.get_running_loop().time() + seconds

    def proxy_page(self) -> web.Response | None:
        """Return the answer of the proxy, while there is one."""
        if asyncio.get_running_loop().time() >= self._proxy_until:
            return None
        status, kind = self._proxy_page
        content_type, text = _PAGES[kind]
        return web.Response(status=status, text=text.format(status=status), content_type=content_type)

    def lose_replies(self, verb: str, resource: str, times: int) -> None:
        """Carry out the next requests of this kind, but cut the connection instead of answering."""
        self._lost_replies[verb, resource] = times

    def cut_if_lost(self, request: web.Request, verb: str, resource: str) -> None:
        """Cut the connection of a request whose reply is to be lost."""
        left = self._lost_replies.get((verb, resource), 0)
        if left and request.transport is not None:
            self._lost_replies[verb, resource] = left - 1
            request.transport.abort()

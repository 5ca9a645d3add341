"""The HTTP proxy to the API server: the kubeconfig's, else the environment's, by kubectl's rules.

Looked up once: a look at the environment (and at netrc) with every request took a twentieth of a worker's time.
"""

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network

from yarl import URL


def checked_proxy(url: str, named: str) -> str:
    """Check the proxy's URL. ``named``: where it stands.

    Raises:
        ValueError: it is none that can be used; the text does not show its password.
    """
    try:
        parsed = URL(url)
    except ValueError as error:
        raise ValueError(f"{named} is no URL") from error
    if parsed.scheme not in ("http", "https"):
        raise ValueError(f"{named} has the scheme {parsed.scheme!r}: only http and https proxies are supported")
    if not parsed.host:
        raise ValueError(f"{named} names no host")
    return url


def environment_proxy(server: str, environment: Mapping[str, str]) -> str | None:
    """Return the proxy by ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``; never one for this machine itself.

    Raises:
        ValueError: these name a proxy that cannot be used.
    """
    url = URL(server)
    variable = f"{url.scheme}_proxy".upper()
    proxy = environment.get(variable) or environment.get(variable.lower())
    if not proxy or not url.host or _is_excepted(url.host, url.port or 0, environment):
        return None
    return checked_proxy(proxy if "://" in proxy else f"http://{proxy}", variable)


def _is_excepted(host: str, port: int, environment: Mapping[str, str]) -> bool:
    address = None
    with suppress(ValueError):
        address = ip_address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    listed = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    return any(_covers(entry.strip().lower(), host.lower(), port) for entry in listed.split(",") if entry.strip())


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY means the host.

    It is ``*``, a network, an address, or a domain with all below it (with a leading dot: only what is below it); an
    address or domain may bear a port.
    """
    if entry == "*":
        return True
    with suppress(ValueError):
        return ip_address(host) in ip_network(entry, strict=False)
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit() and (name.startswith("[") or ":" not in name):
        if int(wanted) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*")
    return host == entry or host.endswith(entry if entry.startswith(".") else f".{entry}")

"""Which variables Kubernetes itself puts into a pod for the Services of its namespace ("service links").

For a Service ``podrelay-redis`` every new pod beside it has ``PODRELAY_REDIS_SERVICE_HOST``, ``PODRELAY_REDIS_PORT``
(``tcp://10.0.0.7:6379``) and more: these look like settings of ours and are none, whatever the Service is called.
"""

import re
from ipaddress import ip_address
from typing import Final

_ADDRESS: Final = "an address"
_NUMBER: Final = re.compile(r"\d{1,5}")
_PROTOCOL: Final = re.compile(r"tcp|udp|sctp")
_URL: Final = re.compile(r"(?:tcp|udp|sctp)://(?:\[[0-9a-f:.]+\]|[0-9.]+):\d{1,5}")

#: How such a name ends, and what it then holds. A Service may be called like an ending, so several may fit.
_ENDINGS: Final = (
    (r"_PORT_\d+_(?:TCP|UDP|SCTP)_PROTO", _PROTOCOL),
    (r"_PORT_\d+_(?:TCP|UDP|SCTP)_PORT", _NUMBER),
    (r"_PORT_\d+_(?:TCP|UDP|SCTP)_ADDR", _ADDRESS),
    (r"_PORT_\d+_(?:TCP|UDP|SCTP)", _URL),
    (r"_SERVICE_HOST", _ADDRESS),
    (r"_SERVICE_PORT(?:_[A-Z0-9_]+)?", _NUMBER),
    (r"_PORT", _URL),
)
_KINDS: Final = tuple((re.compile(rf"[A-Z0-9_]+?{ending}"), value) for ending, value in _ENDINGS)


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes has set this variable for a Service: by its name and by what it holds.

    The value is looked at, because a setting may end in ``_PORT`` too.
    """
    holding = [holds for pattern, holds in _KINDS if pattern.fullmatch(name.upper())]
    return any(_is_address(value) if isinstance(holds, str) else holds.fullmatch(value) for holds in holding)


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True

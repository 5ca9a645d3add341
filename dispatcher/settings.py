"""The settings of one process, read from ``PODRELAY_*`` once, at its entry point.

pydantic-settings ignores variables it does not know, so a misspelled one would silently do nothing: we check the prefix
ourselves and stop with the nearest known name.
"""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from dispatcher.errors import SettingsError
from dispatcher.service_links import is_service_link
from dispatcher.spec import QueueName, nearest

PREFIX = "PODRELAY_"

#: Variables that another part of podrelay reads: the worker, the compose file, the tests. They have the same prefix, as
#: users' manifests have these names, so a client in the same environment must know them from misspelled ones. A test
#: holds the list equal to what those parts read.
READ_ELSEWHERE = frozenset(
    {
        "PODRELAY_API_AWAY_S",
        "PODRELAY_API_CONNECTIONS",
        "PODRELAY_CONCURRENCY",
        "PODRELAY_DEFAULT_NAMESPACE",
        "PODRELAY_HEARTBEAT_S",
        "PODRELAY_LEASE_S",
        "PODRELAY_LOG_BUFFER_BYTES",
        "PODRELAY_LOG_FORMAT",
        "PODRELAY_LOG_LEVEL",
        "PODRELAY_LOG_URL_TEMPLATE",
        "PODRELAY_MAX_JOBS",
        "PODRELAY_METRICS_PORT",
        "PODRELAY_NAMESPACES",
        "PODRELAY_POD_SECURITY",
        "PODRELAY_POD_SECURITY_EXEMPT",
        "PODRELAY_REDIS_MEMORY_LIMIT_BYTES",
        "PODRELAY_RETURN_VALUE_IMAGE",
        "PODRELAY_SWEEP_S",
        "PODRELAY_WORKER_NAME",
        "PODRELAY_IMAGE",
        "PODRELAY_REDIS_IMAGE",
        "PODRELAY_K3S_IMAGE",
        "PODRELAY_PYTHON_IMAGE",
        "PODRELAY_TEST_KUBECONFIG",
        "PODRELAY_TEST_REDIS_SERVERS",
        "PODRELAY_TEST_DIE_AFTER",
        "PODRELAY_TEST_SLOW",
    }
)


class _Variables(EnvSettingsSource):
    """The environment without service links: one may have the very name of a setting (``PODRELAY_METRICS_PORT``)."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        found = super()._load_env_vars()
        return {name: value for name, value in found.items() if value is None or not is_service_link(name, value)}


class ClientSettings(BaseSettings):
    """The settings that every process of podrelay has."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    queue: QueueName = "default"
    installation: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] = "podrelay"
    redis_timeout_s: Annotated[float, Field(gt=0)] = 5
    redis_retries: Annotated[int, Field(ge=0)] = 3

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must be a URL that begins with redis://, rediss:// or unix://")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then variables but for those that Kubernetes has set for a Service."""
        return init_settings, _Variables(settings_cls)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read the settings; ``overrides`` (a command's flags) win over variables.

        Raises:
            SettingsError: a variable is unknown or its value unusable.
        """
        found = os.environ if environ is None else environ
        known = {PREFIX + name.upper() for name in cls.model_fields} | READ_ELSEWHERE
        for name, value in found.items():
            if name.startswith(PREFIX) and name.upper() not in known and not is_service_link(name, value):
                raise SettingsError(f"{name}: no such setting{nearest(name, known)}")
        given = {k: v for k, v in overrides.items() if v is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise SettingsError("; ".join(_problem(e) for e in error.errors())) from None

    @property
    def masked_redis_url(self) -> str:
        """The URL of Redis as it may be shown."""
        return mask_url(self.redis_url.get_secret_value())


def _problem(error: Any) -> str:
    name, found = f"{PREFIX}{str(error['loc'][0]).upper()}", error["input"]
    shown = "" if "URL" in name else f", found {found!r}"
    return f"{name}: {error['msg'].removeprefix('Value error, ')}{shown}"


def mask_url(url: str) -> str:
    """Replace the URL's password by ``***``, for messages and logs.

    Also one with ``/``, ``#`` or ``@`` in it, which makes the URL unusable.
    """
    masked = re.sub(r"(?<=://)([^:/?#@]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"(?<=[?&]password=)[^&]*", "***", masked)

"""The settings of one process, read from ``PODRELAY_*`` once, at its entry point.

pydantic-settings ignores variables it does not know, so a misspelled one would silently do nothing: we check the prefix
ourselves and stop with the nearest known name.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from dispatcher.errors import SettingsError
from dispatcher.redis_endpoint import RedisEndpoint, check_tls_files, read_url_file
from dispatcher.redis_url import parse_redis_url
from dispatcher.service_links import is_service_link
from dispatcher.spec import QueueName, nearest

PREFIX = "PODRELAY_"

#: The path of a file; a variable that is set and empty is a mistake.
FilePath = Annotated[str, StringConstraints(min_length=1)]

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
    redis_url_file: FilePath | None = None  #: holds the URL, and is read for each new connection
    redis_ca_file: FilePath | None = None  #: whom to believe, for a rediss:// URL that names none
    redis_cert_file: FilePath | None = None  #: what to show a server that asks for a certificate
    redis_key_file: FilePath | None = None  #: its key, where it is a file of its own
    queue: QueueName = "default"
    installation: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] = "podrelay"
    redis_timeout_s: Annotated[float, Field(gt=0)] = 5
    redis_retries: Annotated[int, Field(ge=0)] = 3

    _redis: RedisEndpoint = PrivateAttr()

    @model_validator(mode="after")
    def _find_redis(self) -> Self:
        if self.redis_url_file is None:
            try:
                address = parse_redis_url(self.redis_url.get_secret_value())
            except ValueError as error:
                raise ValueError(f"PODRELAY_REDIS_URL: {error}") from None
        elif "redis_url" in self.model_fields_set:
            raise ValueError("PODRELAY_REDIS_URL and PODRELAY_REDIS_URL_FILE are both set: one of them must go")
        else:
            address = read_url_file(self.redis_url_file)
        if self.redis_key_file and not self.redis_cert_file:
            raise ValueError("PODRELAY_REDIS_KEY_FILE needs PODRELAY_REDIS_CERT_FILE")
        files = {"ca": self.redis_ca_file, "cert": self.redis_cert_file, "key": self.redis_key_file}
        given = {f"{name}_file": path for name, path in files.items()}
        self._redis = RedisEndpoint(address.with_files(**given), self.redis_url_file)
        return self

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
        if "redis_url" in given:
            given["redis_url_file"] = None
        try:
            settings = cls(**given)
            settings._check_tls(is_url_given="redis_url" in given)
        except ValidationError as error:
            raise SettingsError("; ".join(_problem(e) for e in error.errors())) from None
        except ValueError as error:
            raise SettingsError(str(error)) from None
        return settings

    def _check_tls(self, *, is_url_given: bool) -> None:
        """Make sure that TLS has what it needs, and that nobody believes in one that there is not.

        A URL that is given may be another server's than those that the environment's files are for.
        """
        of_settings = {"ssl_ca_certs": self.redis_ca_file, "ssl_certfile": self.redis_cert_file}
        tls = self._redis.address.tls
        if tls is not None:
            files = {"ssl_ca_certs": tls.ca_file, "ssl_certfile": tls.cert_file}
            check_tls_files(tls, named=lambda option: _named(option, of_settings[option] == files[option]))
        elif not is_url_given:
            for option, path in of_settings.items():
                if path is not None:
                    raise ValueError(f"{_named(option, True)} is set, and Redis' URL does not begin with rediss://")

    @property
    def redis(self) -> RedisEndpoint:
        """Where Redis is, and as whom."""
        return self._redis

    @property
    def masked_redis_url(self) -> str:
        """The URL of Redis as it may be shown."""
        return self._redis.shown


def _named(option: str, is_setting: bool) -> str:
    """Say where the file of a URL's option was named."""
    names = {"ssl_ca_certs": "PODRELAY_REDIS_CA_FILE", "ssl_certfile": "PODRELAY_REDIS_CERT_FILE"}
    return names[option] if is_setting else f"PODRELAY_REDIS_URL: option {option}"


def _problem(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:  # about several settings, which it names
        return message
    name = f"{PREFIX}{str(error['loc'][0]).upper()}"
    return f"{name}: {message}" if "URL" in name else f"{name}: {message}, found {error['input']!r}"

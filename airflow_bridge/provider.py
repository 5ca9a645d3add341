"""The provider's metadata for Airflow: connection type with its form, operator, trigger, decorators, link, setting.

Every component of Airflow imports this module at its start, so it imports nothing.
"""

_NAME = "podrelay"


def get_provider_info() -> dict[str, object]:
    """Return the metadata: the entry point ``apache_airflow_provider``."""
    return {
        "package-name": "podrelay",
        "name": _NAME,
        "description": "Run containers on Kubernetes clusters that Airflow cannot reach and has no credentials for.",
        "integrations": [{"integration-name": _NAME, "tags": ["service"]}],
        "operators": [{"integration-name": _NAME, "python-modules": ["airflow_bridge.operator"]}],
        "hooks": [{"integration-name": _NAME, "python-modules": ["airflow_bridge.hook"]}],
        "triggers": [{"integration-name": _NAME, "python-modules": ["airflow_bridge.trigger"]}],
        "connection-types": [_connection_type()],
        "extra-links": ["airflow_bridge.links.PodLogLink"],
        "task-decorators": [
            {"class-name": "airflow_bridge.decorators.podrelay_task", "name": "podrelay"},
            {"class-name": "airflow_bridge.decorators.podrelay_cmd_task", "name": "podrelay_cmd"},
        ],
        "config": {
            "podrelay": {
                "description": "Settings of podrelay's operator.",
                "options": {"deployment": _DEPLOYMENT, "deferred_at_least_s": _DEFERRED_AT_LEAST_S},
            }
        },
    }


_DEPLOYMENT = {
    "description": (
        "How this Airflow is called among those that share one podrelay installation (one Redis). It is part\n"
        "of the key by which a task's retry finds its job again, so two Airflows with the same DAGs must differ.\n"
    ),
    "version_added": None,
    "type": "string",
    "example": "production",
    "default": "airflow",
}

_DEFERRED_AT_LEAST_S = {
    "description": (
        "How many seconds a task stays deferred at least. A scheduler that learns of the end of the process that has\n"
        "deferred only when the task is queued again marks the task as failed, and logs nothing. Raise it where\n"
        "short deferred tasks still fail so; 0 resumes a task as soon as its pod has ended.\n"
    ),
    "version_added": None,
    "type": "float",
    "example": "10",
    "default": "3.0",
}


def _connection_type() -> dict[str, object]:
    text = {"type": ["string", "null"]}
    return {
        "connection-type": _NAME,
        "hook-class-name": "airflow_bridge.hook.PodRelayHook",
        "hook-name": "podrelay",
        "conn-fields": {
            "queue": {
                "label": "Queue",
                "schema": text,
                "description": "The queue whose workers run the pods, where a task names none. Default: default.",
            },
            "namespace": {
                "label": "Namespace",
                "schema": text,
                "description": "For pods whose task names none. Default: the worker's own.",
            },
            "deployment": {
                "label": "Deployment",
                "schema": text,
                "description": "How this Airflow is called among those that share this Redis. Default: airflow.",
            },
            "tls": {
                "label": "TLS",
                "schema": {"type": ["boolean", "null"]},
                "description": (
                    "Connect to Redis over TLS (rediss://). The extra fields ssl_ca_certs, ssl_certfile, ssl_keyfile "
                    "name files on each machine; else PODRELAY_REDIS_CA_FILE and its like count."
                ),
            },
            "redis_url": {
                "label": "Redis URL",
                "schema": {**text, "format": "password"},
                "description": "The whole URL; replaces host, port, login, password, database and TLS.",
            },
        },
        "ui-field-behaviour": {
            "hidden-fields": [],
            "relabeling": {
                "host": "Redis host, or a socket's path",
                "port": "Redis port",
                "login": "Redis user",
                "password": "Redis password",
                "schema": "Redis database",
            },
            "placeholders": {"host": "redis.example.com", "port": "6379", "schema": "0"},
        },
    }

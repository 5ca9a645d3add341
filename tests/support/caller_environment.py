"""What whoever runs the tests has set for programs of their own, and no test may be changed by."""

import os
import re

_FOREIGN = re.compile(
    r"PODRELAY_(?!TEST_).*"
    r"|AIRFLOW_.*|CELERY_.*|KUBE.*|REDIS.*"
    r"|(https?|ftp|all|no)_proxy"
    r"|PYTHON(PATH|HOME|STARTUP|OPTIMIZE|WARNINGS|IOENCODING|UTF8|ASYNCIODEBUG|DEVMODE)"
    r"|(NO|FORCE|PY)_COLOR|CLICOLOR(_FORCE)?|COLUMNS|LINES|TZ",
    re.IGNORECASE,
)


def foreign(names: "list[str]") -> list[str]:
    """Those of the names of variables that are not for the tests."""
    return [name for name in names if _FOREIGN.fullmatch(name)]


def forget() -> None:
    """Take such variables out of this process' environment, and so out of all that the tests start."""
    for name in foreign(list(os.environ)):
        del os.environ[name]

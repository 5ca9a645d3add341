"""The script that runs a decorated function in a container, with its arguments as a pickle. Pure.

It is the script of ``@task.kubernetes``, so that a function that ran there runs here. The image needs Python and bash.
"""

import base64
import importlib
from collections.abc import Mapping, Sequence

SCRIPT_VARIABLE = "__PYTHON_SCRIPT"
INPUT_VARIABLE = "__PYTHON_INPUT"

_SCRIPT_FILE = "/tmp/script.py"
_INPUT_FILE = "/tmp/script.in"
_RETURN_FILE = "/airflow/xcom/return.json"

_SCRIPT = """\
from __future__ import annotations

import json
import {pickling}
import sys

try:
    from airflow.plugins_manager import integrate_macros_plugins
    integrate_macros_plugins()
except ImportError:
    pass  # no Airflow in this image

{arguments}

# Script
{source}
res = {name}(*arg_dict["args"], **arg_dict["kwargs"])

# Write output
with open(sys.argv[2], "w") as file:
    if res is not None:
        file.write(json.dumps(res))
"""

_LOAD = """\
with open(sys.argv[1], "rb") as file:
    arg_dict = {pickling}.load(file)"""


def script_of(source: str, name: str, *, pickling: str, has_arguments: bool) -> str:
    """Write the script that calls the function ``name`` of ``source``; the module ``pickling`` loads its arguments."""
    arguments = _LOAD.format(pickling=pickling) if has_arguments else 'arg_dict = {"args": [], "kwargs": {}}'
    return _SCRIPT.format(pickling=pickling, arguments=arguments, source=source, name=name)


def variables(script: str, pickled: bytes) -> list[dict[str, str]]:
    """Return the container's variables that hold script and arguments."""
    carried = {SCRIPT_VARIABLE: script.encode(), INPUT_VARIABLE: pickled}
    return [{"name": name, "value": base64.b64encode(data).decode()} for name, data in carried.items()]


def command(*, returns_value: bool) -> list[str]:
    """Return the container's command: write both files, then run the script."""
    output = _RETURN_FILE if returns_value else "/dev/null"
    steps = [
        _decode(SCRIPT_VARIABLE, _SCRIPT_FILE),
        _decode(INPUT_VARIABLE, _INPUT_FILE),
        "mkdir -p /airflow/xcom" if returns_value else ":",
        f"python {_SCRIPT_FILE} {_INPUT_FILE} {output}",
    ]
    return ["bash", "-cx", " && ".join(steps)]


def _decode(variable: str, file: str) -> str:
    return (
        f'python -c "import base64, os;x = base64.b64decode(os.environ[\\"{variable}\\"]);'
        f'f = open(\\"{file}\\", \\"wb\\"); f.write(x); f.close()"'
    )


def pickled(args: Sequence[object], kwargs: Mapping[str, object], *, use_dill: bool) -> tuple[str, bytes]:
    """Pickle the arguments; return the name of the module that loads them, and the pickle."""
    name = "dill" if use_dill else "pickle"
    data: bytes = importlib.import_module(name).dumps({"args": args, "kwargs": kwargs})
    return name, data

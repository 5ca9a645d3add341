#!/bin/sh
# Print the Python that makes the environment: the one that is given, else the first on PATH that runs, is 3.11 or newer,
# and can make one. Debian's cannot without its package python3-venv; a shim of pyenv may be there and not run.
can='import sys
if sys.version_info < (3, 11): sys.exit("is " + sys.version.split()[0])
try: import ensurepip, venv
except ImportError: sys.exit("has no ensurepip: Debian and Ubuntu have it in the package python3-venv")'
tried=
if [ -n "$1" ]; then tried="$1 was asked for"; else set -- python3.11 python3.12 python3.13 python3.14 python3 python; fi
for name in "$@"; do
  python=$(command -v "$name") || continue
  if why=$("$python" -c "$can" 2>&1); then
    echo "$python"
    exit 0
  fi
  tried="${tried:+$tried; }$python ${why%%
*}"
done
echo "make: no Python 3.11 or newer that can make an environment${tried:+ ($tried)}: install one, or say where: make PYTHON=…" >&2
exit 1

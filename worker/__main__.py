"""``python -m worker``: one worker process, configured by ``PODRELAY_*`` and ``KUBECONFIG``.

It ends with 0 when it was told to (SIGTERM, SIGINT), with 2 for settings and usage, with 1 for all else, and then with
one line on stderr that says why.
"""

import gc
import logging
import socket
import sys
import warnings

from dispatcher.version import VERSION


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the process' exit code."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"podrelay {VERSION}\n")
        return 0
    if sys.argv[1:]:
        text = f"a worker takes no arguments, found {sys.argv[1]!r}: PODRELAY_* and KUBECONFIG configure it"
        sys.stderr.write(f"podrelay: {text}\n")
        return 2
    # The imports make 300,000 objects that all stay: looking through them for garbage is a sixth of the start.
    gc.disable()
    from celery.platforms import SecurityWarning
    from celery.utils.nodenames import nodename

    from worker.app import app, settings

    gc.freeze()
    gc.enable()
    # Celery warns root of pickle; this worker reads JSON only.
    warnings.simplefilter("ignore", SecurityWarning)
    name = nodename(settings.worker_name, socket.gethostname())
    worker = app.Worker(hostname=name, loglevel=logging.getLevelNamesMapping()[settings.log_level], quiet=True)
    worker.start()
    return int(worker.exitcode)


if __name__ == "__main__":
    sys.exit(main())

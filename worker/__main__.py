"""``python -m worker``: one worker process, configured by ``PODRELAY_*`` and ``KUBECONFIG``."""

import warnings

from celery.platforms import SecurityWarning

from worker.app import app, settings


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    # Celery warns root of pickle; this worker reads JSON only.
    warnings.simplefilter("ignore", SecurityWarning)
    app.worker_main(["--quiet", "worker", "--loglevel", settings.log_level, "--hostname", f"{settings.worker_name}@%h"])


if __name__ == "__main__":
    main()

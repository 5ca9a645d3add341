"""``python -m worker``: one worker process, configured by ``PODRELAY_*`` and ``KUBECONFIG``."""

import gc
import warnings

from celery.platforms import SecurityWarning


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    # The imports make 300,000 objects that all stay: looking through them for garbage is a sixth of the start.
    gc.disable()
    from worker.app import app, settings

    gc.freeze()
    gc.enable()
    # Celery warns root of pickle; this worker reads JSON only.
    warnings.simplefilter("ignore", SecurityWarning)
    app.worker_main(["--quiet", "worker", "--loglevel", settings.log_level, "--hostname", f"{settings.worker_name}@%h"])


if __name__ == "__main__":
    main()

"""The worker's Prometheus metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server

from dispatcher.record import JobRecord
from dispatcher.version import VERSION


class Metrics:
    """The metrics of one supervisor, in a registry of its own: two in one process (tests) do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        Info("podrelay_build", "This worker's version", registry=self.registry).info({"version": VERSION})
        self._ended = Counter(
            "podrelay_jobs_ended", "Jobs whose end this worker recorded", ["status", "reason"], registry=self.registry
        )
        self._launched = Histogram(
            "podrelay_launch_seconds",
            "From submission to the pod's record",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60, 600),
            registry=self.registry,
        )
        self._failures = Counter(
            "podrelay_loop_failures",
            "What a loop of the worker met and did not foresee",
            ["loop"],
            registry=self.registry,
        )
        self.slow_pods = Gauge(
            "podrelay_slow_pods", "Pods that were told to go a minute ago or more, and did not", registry=self.registry
        )
        self.sees_cluster = Gauge(
            "podrelay_api_server_reachable", "1 while this worker's API server answers it", registry=self.registry
        )
        self.jobs = Gauge("podrelay_jobs_followed", "Jobs that this worker follows", registry=self.registry)
        self.buffered = Gauge(
            "podrelay_log_buffered_bytes", "Log in memory that Redis could not take yet", registry=self.registry
        )

    def loop_failed(self, name: str) -> None:
        """Count an unforeseen error in a loop that goes on."""
        self._failures.labels(name).inc()

    def job_left(self, record: JobRecord) -> None:
        """Count a job that left this worker."""
        if record.status.is_final:
            self._ended.labels(record.status.value, record.reason.value if record.reason else "").inc()
        submitted, starting = record.reached_at("submitted"), record.reached_at("starting")
        if submitted is not None and starting is not None:
            self._launched.observe(max(0.0, starting - submitted))

    def serve(self, port: int) -> None:
        """Serve the metrics on this port, in a thread."""
        start_http_server(port, registry=self.registry)

"""The journal for tests: every pod ever created, what its containers really wrote, and all API requests."""

from dataclasses import dataclass, field

from devcluster.apimachinery.errors import Json
from devcluster.runtime.logs import ContainerOutput


@dataclass(slots=True)
class JournalEntry:
    """One pod, kept after it is gone."""

    uid: str
    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    created_at: str
    node: str = ""
    starts: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, ContainerOutput] = field(default_factory=dict)
    deleted_at: str | None = None

    def output_of(self, name: str) -> ContainerOutput:
        return self.outputs.setdefault(name, ContainerOutput())

    def as_json(self) -> Json:
        return {
            "uid": self.uid,
            "name": self.name,
            "namespace": self.namespace,
            "labels": self.labels,
            "annotations": self.annotations,
            "created_at": self.created_at,
            "deleted_at": self.deleted_at,
            "node": self.node,
            "containers": {name: self._container_json(name, output) for name, output in self.outputs.items()},
        }

    def _container_json(self, name: str, output: ContainerOutput) -> Json:
        return {
            "starts": self.starts.get(name, 0),
            "bytes": output.bytes,
            "sha256": output.digest.hexdigest(),
            "log_paths": list(output.paths),
        }


class Journal:
    """All pods in the order of their creation, and all API requests by verb and resource."""

    def __init__(self) -> None:
        self.pods: dict[str, JournalEntry] = {}
        self.requests: dict[str, int] = {}
        self.asked: set[tuple[str, str, str]] = set()  #: verb, resource and namespace of each request

    def pod_created(self, pod: Json) -> JournalEntry:
        metadata = pod["metadata"]
        entry = JournalEntry(
            uid=metadata["uid"],
            name=metadata["name"],
            namespace=metadata["namespace"],
            labels=dict(metadata.get("labels") or {}),
            annotations=dict(metadata.get("annotations") or {}),
            created_at=metadata["creationTimestamp"],
        )
        self.pods[entry.uid] = entry
        return entry

    def request(self, verb: str, resource: str, namespace: str) -> None:
        self.asked.add((verb, resource, namespace))
        key = f"{verb} {resource}"
        self.requests[key] = self.requests.get(key, 0) + 1

"""What `kubectl apply -k` would send: the objects that a kustomization names, with its images put in.

Only what `deploy/kustomization.yaml` uses; a field that this does not know is an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """Objects as a cluster gets them."""

    objects: tuple[Json, ...]

    def of_kind(self, kind: str) -> list[Json]:
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str) -> Json:
        (found,) = self.of_kind(kind)
        return found

    @property
    def pod(self) -> Json:
        """The pod that the Deployment makes, in its namespace."""
        deployment = self.one("Deployment")
        template: Json = deployment["spec"]["template"]
        return {**template, "metadata": {**template["metadata"], "namespace": deployment["metadata"]["namespace"]}}

    @property
    def environment(self) -> dict[str, str]:
        """The variables that stand in the Deployment with a value."""
        (container,) = self.pod["spec"]["containers"]
        return {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}

    @property
    def settings(self) -> dict[str, Any]:
        """The same, as arguments of WorkerSettings."""
        return {name.removeprefix("PODRELAY_").lower(): value for name, value in self.environment.items()}


def render(folder: Path) -> Rendered:
    """Read a kustomization and all that it names."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert kustomization.keys() <= {"apiVersion", "kind", "resources", "images"}, kustomization.keys()
    images = {image["name"]: f"{image['newName']}:{image['newTag']}" for image in kustomization["images"]}
    objects = [
        found for name in kustomization["resources"] for found in yaml.safe_load_all((folder / name).read_text())
    ]
    for container in _containers(objects):
        container["image"] = images.get(container["image"], container["image"])
    return Rendered(tuple(objects))


def _containers(objects: list[Json]) -> Iterator[Json]:
    for found in objects:
        if found["kind"] == "Deployment":
            yield from found["spec"]["template"]["spec"]["containers"]

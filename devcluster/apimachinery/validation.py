"""Validation of a new pod: every rule yields its causes, in the API server's order as far as recorded."""

import re
from collections.abc import Iterator
from decimal import Decimal

from devcluster.apimachinery.errors import Cause, Json, invalid
from devcluster.apimachinery.quantity import amount

#: Of all annotations together, names and values.
_MOST_ANNOTATIONS_BYTES = 262_144

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"^{_LABEL}(\.{_LABEL})*$")
_LABEL_ONLY = re.compile(rf"^{_LABEL}$")
_LABEL_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_QUALIFIED = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")

_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_LABEL_KEY_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def validate(pod: Json) -> None:
    """Check a new pod.

    Raises:
        StatusError: 422, with all that is wrong.
    """
    causes = [*_metadata_causes(pod["metadata"]), *_spec_causes(pod.get("spec") or {})]
    if causes:
        raise invalid("Pod", pod["metadata"].get("name", ""), causes)


def _wrong(field: str, value: object, why: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause(field, "FieldValueInvalid", f"Invalid value: {shown}: {why}")


def _required(field: str, why: str = "") -> Cause:
    return Cause(field, "FieldValueRequired", f"Required value: {why}" if why else "Required value")


def _unsupported(field: str, value: str, supported: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{one}"' for one in supported)
    return Cause(field, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {listed}')


def _metadata_causes(metadata: Json) -> Iterator[Cause]:
    name = metadata.get("name", "")
    if not name:
        yield _required("metadata.name", "name or generateName is required")
    elif len(name) > 253:
        yield _wrong("metadata.name", name, "must be no more than 253 bytes")
    elif not _SUBDOMAIN.match(name):
        yield _wrong("metadata.name", name, _SUBDOMAIN_RULE)
    yield from _label_causes("metadata.labels", metadata.get("labels") or {})
    yield from _annotation_causes(metadata.get("annotations") or {})


def validate_annotations(kind: str, metadata: Json) -> None:
    """Check the annotations of a changed object.

    Raises:
        StatusError: 422, with all that is wrong.
    """
    if causes := [*_annotation_causes(metadata.get("annotations") or {})]:
        raise invalid(kind, metadata["name"], causes)


def _annotation_causes(annotations: dict[str, str]) -> Iterator[Cause]:
    for key in annotations:
        if not _QUALIFIED.match(key.lower()):
            yield _wrong("metadata.annotations", key, _LABEL_KEY_RULE)
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _MOST_ANNOTATIONS_BYTES:
        words = f"Too long: may not be more than {_MOST_ANNOTATIONS_BYTES} bytes"
        yield Cause("metadata.annotations", "FieldValueTooLong", words)


def _label_causes(field: str, labels: dict[str, str]) -> Iterator[Cause]:
    for key, value in labels.items():
        if not _QUALIFIED.match(key):
            yield _wrong(field, key, _LABEL_KEY_RULE)
        if len(value) > 63:
            yield _wrong(field, value, "must be no more than 63 bytes")
        elif not _LABEL_VALUE.match(value):
            yield _wrong(field, value, _LABEL_VALUE_RULE)


def _spec_causes(spec: Json) -> Iterator[Cause]:
    volumes = [volume.get("name", "") for volume in spec.get("volumes", [])]
    for at, name in enumerate(volumes):
        yield from _name_causes(f"spec.volumes[{at}].name", name, volumes[:at])
    if not spec.get("containers"):
        yield _required("spec.containers")
    seen: list[str] = []
    for group in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(group, [])):
            yield from _container_causes(f"spec.{group}[{at}]", container, seen, set(volumes))
            seen.append(container.get("name", ""))
    policy = spec["restartPolicy"]
    if policy not in ("Always", "OnFailure", "Never"):
        yield _unsupported("spec.restartPolicy", policy, ("Always", "Never", "OnFailure"))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and deadline < 1:
        yield _wrong("spec.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive")
    if spec["terminationGracePeriodSeconds"] < 0:
        grace = spec["terminationGracePeriodSeconds"]
        yield _wrong("spec.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0")
    yield from _label_causes("spec.nodeSelector", spec.get("nodeSelector") or {})


def _name_causes(field: str, name: str, earlier: list[str]) -> Iterator[Cause]:
    if not name:
        yield _required(field)
    elif len(name) > 63:
        yield _wrong(field, name, "must be no more than 63 bytes")
    elif not _LABEL_ONLY.match(name):
        yield _wrong(field, name, _LABEL_RULE)
    elif name in earlier:
        yield Cause(field, "FieldValueDuplicate", f'Duplicate value: "{name}"')


def _container_causes(field: str, container: Json, earlier: list[str], volumes: set[str]) -> Iterator[Cause]:
    yield from _name_causes(f"{field}.name", container.get("name", ""), earlier)
    image = container.get("image", "")
    if not image:
        yield _required(f"{field}.image")
    elif image.strip() != image:
        yield _wrong(f"{field}.image", image, "must not have leading or trailing whitespace")
    if container["imagePullPolicy"] not in ("Always", "IfNotPresent", "Never"):
        supported = ("Always", "IfNotPresent", "Never")
        yield _unsupported(f"{field}.imagePullPolicy", container["imagePullPolicy"], supported)
    if field.startswith("spec.initContainers") and container.get("restartPolicy", "Always") != "Always":
        yield _unsupported(f"{field}.restartPolicy", container["restartPolicy"], ("Always",))
    for at, variable in enumerate(container.get("env", [])):
        if not variable.get("name"):
            yield _required(f"{field}.env[{at}].name")
    yield from _resource_causes(f"{field}.resources", container["resources"])
    yield from _mount_causes(field, container, volumes)


def _mount_causes(field: str, container: Json, volumes: set[str]) -> Iterator[Cause]:
    paths: set[str] = set()
    for at, mount in enumerate(container.get("volumeMounts", [])):
        name, path = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield _required(f"{field}.volumeMounts[{at}].name")
        elif name not in volumes:
            yield Cause(f"{field}.volumeMounts[{at}].name", "FieldValueNotFound", f'Not found: "{name}"')
        if not path:
            yield _required(f"{field}.volumeMounts[{at}].mountPath")
        elif path in paths:
            yield _wrong(f"{field}.volumeMounts[{at}].mountPath", path, "must be unique")
        paths.add(path)


def _resource_causes(field: str, resources: Json) -> Iterator[Cause]:
    limits = resources.get("limits") or {}
    for name, text in (resources.get("requests") or {}).items():
        requested = _amount(text)
        if requested is not None and requested < 0:
            yield _wrong(f"{field}.requests[{name}]", text, "must be greater than or equal to 0")
        limit = _amount(limits.get(name, ""))
        if requested is not None and limit is not None and requested > limit:
            why = f"must be less than or equal to {name} limit of {limits[name]}"
            yield _wrong(f"{field}.requests", text, why)


def _amount(text: str) -> Decimal | None:
    try:
        return amount(text)
    except (ValueError, ArithmeticError):
        return None

"""The copy of a job's spec in its pod's annotations, from which the record is made again where Redis was emptied.

It takes only what the user's own annotations leave of what a pod may have: as it is, else compressed, else not at all;
a job without its copy runs like any other, but nobody can rebuild its record.
"""

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any, Final

from dispatcher import names
from dispatcher.errors import InvalidSpecError
from dispatcher.spec import USER_ANNOTATION_BYTES, JobSpec, decode_spec

#: For what admission webhooks add to a pod after us.
_FOR_OTHERS_BYTES: Final = 16 * 1024
#: A copy says no more than this, however small it is compressed.
_LONGEST_BYTES: Final = 16 * 1024 * 1024


def spec_annotations(spec: JobSpec) -> dict[str, str | None]:
    """Return the annotations that hold the copy; None for one that must not be there (merge patch: remove it)."""
    room = USER_ANNOTATION_BYTES - _FOR_OTHERS_BYTES - spec.annotation_bytes
    text = spec.encode()
    if _size(names.ANNOTATION_SPEC, text) <= room:
        return {names.ANNOTATION_SPEC: text, names.ANNOTATION_SPEC_ZLIB: None}
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    fits = _size(names.ANNOTATION_SPEC_ZLIB, packed) <= room
    return {names.ANNOTATION_SPEC: None, names.ANNOTATION_SPEC_ZLIB: packed if fits else None}


def spec_from_annotations(annotations: Mapping[str, Any], *, job_id: str, queue: str) -> JobSpec:
    """Read the copy again. Anybody who may change pods may have changed it.

    Raises:
        InvalidSpecError: there is none, what is there is no spec, or another job's.
    """
    text, packed = annotations.get(names.ANNOTATION_SPEC), annotations.get(names.ANNOTATION_SPEC_ZLIB)
    if isinstance(text, str):
        spec = decode_spec(text)
    elif isinstance(packed, str):
        spec = decode_spec(_unpacked(packed))
    else:
        raise InvalidSpecError(["the pod's annotations hold no copy: they had no room, or somebody took it away"])
    if (spec.id, spec.queue) != (job_id, queue):
        raise InvalidSpecError([f"the copy in the pod's annotations is of job {spec.id!r} in queue {spec.queue!r}"])
    return spec


def _unpacked(packed: str) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(base64.b64decode(packed, validate=True), _LONGEST_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise InvalidSpecError([f"annotation {names.ANNOTATION_SPEC_ZLIB}: {error}"]) from error
    if not stream.eof:
        raise InvalidSpecError([f"annotation {names.ANNOTATION_SPEC_ZLIB}: is cut off, or longer than any spec"])
    return text


def _size(name: str, text: str) -> int:
    return len(name) + len(text.encode())

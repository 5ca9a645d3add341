"""Image pulls: events and back-off of one that fails."""

import asyncio

from devcluster.kubelet.host import Host
from devcluster.kubelet.images import Image, ImageError
from devcluster.kubelet.status_manager import StatusManager
from devcluster.kubelet.views import waiting


async def pull_image(host: Host, status: StatusManager, name: str, image: str, *, policy: str) -> Image:
    """Return the image of a container, once it can be pulled."""
    tries = 0
    while True:
        try:
            return host.images.find(image, policy)
        except ImageError as error:
            wait_s = min(host.latency.image_back_off_s * 2**tries, host.latency.image_back_off_limit_s)
            await _wait_out(status, name, image, error, wait_s=wait_s)
            tries += 1


async def _wait_out(status: StatusManager, name: str, image: str, error: ImageError, *, wait_s: float) -> None:
    for kind, reason, message in _failure_events(image, error):
        status.event(kind, reason, message)
    status.publish_container(status.container(name).with_state(waiting(error.reason, error.message)))
    if error.reason == "ErrImagePull":
        await asyncio.sleep(wait_s / 2)
        status.event("Normal", "BackOff", f'Back-off pulling image "{image}"')
        status.event("Warning", "Failed", "Error: ImagePullBackOff")
        words = f'Back-off pulling image "{image}": ErrImagePull: {error.message}'
        status.publish_container(status.container(name).with_state(waiting("ImagePullBackOff", words)))
        await asyncio.sleep(wait_s / 2)
    else:
        await asyncio.sleep(wait_s)


def image_is_present(image: str) -> str:
    """Return the message of the event ``Pulled``."""
    return f'Container image "{image}" already present on machine and can be accessed by the pod'


def _failure_events(image: str, error: ImageError) -> list[tuple[str, str, str]]:
    failed = ("Warning", "Failed", f"Error: {error.reason}")
    match error.reason:
        case "ErrImagePull":
            pulling = ("Normal", "Pulling", f'Pulling image "{image}"')
            return [pulling, ("Warning", "Failed", f'Failed to pull image "{image}": {error.message}'), failed]
        case "InvalidImageName":
            return [("Warning", "InspectFailed", error.message), failed]
        case reason:
            return [("Warning", reason, error.message), failed]

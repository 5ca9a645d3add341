"""Image pulls: the events of one that fails, and the pauses, ever longer, before it is tried again."""

import asyncio

from devcluster.images import Image, ImageTrouble
from devcluster.knowledge import Knowledge
from devcluster.machine import Machine
from devcluster.views import waiting


async def pull_image(machine: Machine, knowledge: Knowledge, name: str, image: str, *, policy: str) -> Image:
    """The image of the container of that name, waited for as long as it cannot be had."""
    tries = 0
    while True:
        try:
            return machine.images.find(image, policy)
        except ImageTrouble as trouble:
            wait_s = min(machine.latency.image_back_off_s * 2**tries, machine.latency.image_back_off_limit_s)
            await _wait_out(knowledge, name, image, trouble, wait_s=wait_s)
            tries += 1


async def _wait_out(knowledge: Knowledge, name: str, image: str, trouble: ImageTrouble, *, wait_s: float) -> None:
    for kind, reason, message in _failure_events(image, trouble):
        knowledge.event(kind, reason, message)
    knowledge.tell_container(knowledge.container(name).moved(waiting(trouble.reason, trouble.message)))
    if trouble.reason == "ErrImagePull":
        await asyncio.sleep(wait_s / 2)
        knowledge.event("Normal", "BackOff", f'Back-off pulling image "{image}"')
        knowledge.event("Warning", "Failed", "Error: ImagePullBackOff")
        words = f'Back-off pulling image "{image}": ErrImagePull: {trouble.message}'
        knowledge.tell_container(knowledge.container(name).moved(waiting("ImagePullBackOff", words)))
        await asyncio.sleep(wait_s / 2)
    else:
        await asyncio.sleep(wait_s)


def image_is_present(image: str) -> str:
    """The words of the event `Pulled`."""
    return f'Container image "{image}" already present on machine and can be accessed by the pod'


def _failure_events(image: str, trouble: ImageTrouble) -> list[tuple[str, str, str]]:
    error = ("Warning", "Failed", f"Error: {trouble.reason}")
    match trouble.reason:
        case "ErrImagePull":
            pulling = ("Normal", "Pulling", f'Pulling image "{image}"')
            return [pulling, ("Warning", "Failed", f'Failed to pull image "{image}": {trouble.message}'), error]
        case "InvalidImageName":
            return [("Warning", "InspectFailed", trouble.message), error]
        case reason:
            return [("Warning", reason, trouble.message), error]

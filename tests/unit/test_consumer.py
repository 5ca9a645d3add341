"""The consumer's pauses: what the supervisor wishes last is what counts."""

from collections.abc import Callable
from functools import partial
from typing import Any

from worker.queue.consumer import PodrelayConsumer


class Consumer(PodrelayConsumer):  # type: ignore[misc]
    """One that notes which queues it consumes. kombu's hub keeps what it is asked to call in a set, and calls it in any
    order: here in the worst."""

    init_callback = None

    def __init__(self) -> None:
        self.asked: list[Callable[[], None]] = []
        self.consumed = {"gpu"}
        self._consuming: dict[str, bool] = {}

    def add_task_queue(self, queue: str, **_: Any) -> None:
        self.consumed.add(queue)

    def cancel_task_queue(self, queue: str) -> None:
        self.consumed.discard(queue)

    def call_soon(self, p: Callable[..., None], *arguments: Any, **_: Any) -> None:
        self.asked.append(partial(p, *arguments))

    def tick(self) -> None:
        while self.asked:
            self.asked.pop()()


def test_the_last_of_several_wishes_counts_in_whatever_order_the_hub_calls() -> None:
    consumer = Consumer()
    for may_consume in (False, True):
        for wished in (not may_consume, may_consume):
            consumer.set_consuming("gpu", may_consume=wished)
        consumer.tick()
        assert consumer.consumed == ({"gpu"} if may_consume else set())


def test_a_wish_that_was_lost_with_the_connection_is_obeyed_by_the_next_one() -> None:
    consumer = Consumer()
    consumer.set_consuming("gpu", may_consume=False)
    consumer.asked.clear()  # something else that was called has failed
    consumer.on_ready()
    assert consumer.consumed == set()

"""What a worker may do, after everything that can come between it and its lease.

A lease of 10 s here counts for 9 s from when its beat was sent, and what Redis has lost is waited for for 20 s.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from dispatcher.steps import Beat
from worker.lease import Lease

#: Redis' clock when this machine's shows 0.
REDIS_0 = 1_000_000.0


class Machine:
    """A machine whose clock a test moves, and what its lease is told."""

    def __init__(self) -> None:
        self.at = 0.0
        self.redis_0 = REDIS_0
        self.run = "r1"
        self.runs_since: float | None = None
        self.generation = "g1"
        self.lease = Lease(10.0, clock=lambda: self.at)

    def beat(self, at: float, *, took_s: float = 0.0, was_alive: bool = True) -> None:
        """Send a beat and hear its answer, which Redis has given right away."""
        self.at = at + took_s
        beat = Beat(
            at=self.redis_0 + at,
            generation=self.generation,
            lease_was_alive=was_alive,
            redis_life=f"{self.generation} {self.run}",
            runs_since=self.runs_since,
        )
        self.lease.renewed(beat, sent_at=at, heard_at=self.at)

    def begin(self) -> None:
        """The first beat is answered at 100; the server runs since 50."""
        self.beat(100, was_alive=False)
        self.lease.began(server_started_at=REDIS_0 + 50)


@dataclass(frozen=True)
class Answers:
    """What the lease says."""

    held: bool = True
    authoritative: bool = True
    may_launch: bool = True
    may_rebuild: bool = True
    term: int = 1
    dead_from: float = (
        0.0  #: who lacks a lease is dead if it was seen last after this (this machine's clock); 0: all are
    )


def answers(machine: Machine) -> Answers:
    lease = machine.lease
    spared = [at for at in range(400) if not lease.is_dead(machine.redis_0 + at)]
    assert spared == list(range(len(spared)))
    return Answers(
        held=lease.held,
        authoritative=lease.is_authoritative,
        may_launch=lease.may_launch,
        may_rebuild=lease.may_rebuild,
        term=lease.term,
        dead_from=max(spared, default=0),
    )


def first(machine: Machine) -> None:
    machine.begin()


def first_at_a_young_server(machine: Machine) -> None:
    machine.beat(100, was_alive=False)
    machine.lease.began(server_started_at=REDIS_0 + 95)


def first_whose_answer_was_lost_and_repeated(machine: Machine) -> None:
    machine.beat(100, was_alive=True)
    machine.lease.began(server_started_at=REDIS_0 + 50)


def first_at_a_server_that_has_just_failed_over(machine: Machine) -> None:
    machine.runs_since = REDIS_0 + 90
    machine.begin()


def renewed(machine: Machine) -> None:
    machine.begin()
    for at in range(103, 160, 3):
        machine.beat(at)


def answered_late(machine: Machine) -> None:
    """The lease counts from when the beat was sent."""
    renewed(machine)
    machine.beat(160, took_s=8.9)


def answered_too_late(machine: Machine) -> None:
    renewed(machine)
    machine.beat(160, took_s=9.1)


def lapsed_by_our_clock_only(machine: Machine) -> None:
    """It is over here before it is over in Redis."""
    renewed(machine)
    machine.at = 157 + 9.1


def renewed_after_it_lapsed_by_our_clock(machine: Machine) -> None:
    renewed(machine)
    machine.beat(157 + 9.5)


def renewed_one_lease_after_it_lapsed_by_our_clock(machine: Machine) -> None:
    renewed_after_it_lapsed_by_our_clock(machine)
    for at in (169.5, 172.5, 175.5):
        machine.beat(at)
    machine.at = 176.5


def lapsed_by_redis_only(machine: Machine) -> None:
    """Somebody deleted its key."""
    renewed(machine)
    machine.beat(160, was_alive=False)


def lapsed_by_both(machine: Machine) -> None:
    """The process was frozen."""
    renewed(machine)
    machine.beat(200, was_alive=False)


def emptied(machine: Machine) -> None:
    renewed(machine)
    machine.generation = "g2"
    machine.beat(160, was_alive=False)


def emptied_nearly_two_leases_ago(machine: Machine) -> None:
    emptied(machine)
    for at in range(163, 180, 3):
        machine.beat(at)
    machine.at = 179.9


def emptied_two_leases_ago(machine: Machine) -> None:
    emptied_nearly_two_leases_ago(machine)
    machine.at = 180.1


def emptied_and_then_away(machine: Machine) -> None:
    """Nobody could write again what Redis had lost before it was away: its owners have their time anew."""
    emptied(machine)
    machine.beat(163)
    machine.beat(185, was_alive=False)
    for at in range(188, 203, 3):
        machine.beat(at)
    machine.at = 204.9


def emptied_and_then_answered_late(machine: Machine) -> None:
    """The answer tells of the time at which its beat was sent."""
    emptied(machine)
    machine.beat(163, took_s=18)
    machine.beat(182, was_alive=False)


def emptied_and_away_afterwards(machine: Machine) -> None:
    emptied(machine)
    for at in range(163, 184, 3):
        machine.beat(at)
    machine.beat(200, was_alive=False)


def restarted_with_its_data(machine: Machine) -> None:
    """The server's run began at 158: the first beat that finds it says so."""
    renewed(machine)
    machine.run, machine.runs_since = "r2", REDIS_0 + 158
    machine.beat(160)


def restarted_a_while_ago(machine: Machine) -> None:
    restarted_with_its_data(machine)
    for at in range(163, 178, 3):
        machine.beat(at)
    machine.at = 178.1


def failed_over_and_lost_the_lease(machine: Machine) -> None:
    renewed(machine)
    machine.run, machine.runs_since = "r2", REDIS_0 + 160
    machine.beat(160, was_alive=False)


def clock_set_back(machine: Machine) -> None:
    """By 40 s, which it is told of as of another run: the restart would be yet to come."""
    restarted_a_while_ago(machine)
    machine.redis_0 -= 40
    machine.runs_since = machine.redis_0 + 180
    machine.beat(180)


def clock_set_back_after_it_lapsed(machine: Machine) -> None:
    """Those are spared that were not seen since, not those that will be seen within the next 40 s."""
    lapsed_by_redis_only(machine)
    machine.redis_0 -= 40
    machine.beat(163)


def silent_for_less_than_its_lease(machine: Machine) -> None:
    renewed(machine)
    machine.lease.refused()
    machine.beat(165)


def silent_for_long(machine: Machine) -> None:
    renewed(machine)
    machine.lease.refused()
    machine.beat(300, was_alive=False)


def silent_two_leases_ago(machine: Machine) -> None:
    silent_for_less_than_its_lease(machine)
    for at in range(168, 185, 3):
        machine.beat(at)
    machine.at = 185.1


def handed_over(machine: Machine) -> None:
    renewed(machine)
    machine.lease.end_term()


TABLE: Sequence[tuple[Callable[[Machine], None], Answers]] = [
    (first, Answers(may_rebuild=False)),
    (first_at_a_young_server, Answers(may_rebuild=False, dead_from=95)),
    (first_whose_answer_was_lost_and_repeated, Answers(may_rebuild=False)),
    (first_at_a_server_that_has_just_failed_over, Answers(may_launch=False, may_rebuild=False, dead_from=90)),
    (renewed, Answers()),
    (answered_late, Answers()),
    (answered_too_late, Answers(held=False, authoritative=False)),
    (lapsed_by_our_clock_only, Answers(held=False, authoritative=False)),
    (renewed_after_it_lapsed_by_our_clock, Answers(authoritative=False, term=2)),
    (renewed_one_lease_after_it_lapsed_by_our_clock, Answers(term=2)),
    (lapsed_by_redis_only, Answers(may_rebuild=False, term=2, dead_from=160)),
    (lapsed_by_both, Answers(authoritative=False, may_rebuild=False, term=2, dead_from=200)),
    (emptied, Answers(may_launch=False, may_rebuild=False, term=2, dead_from=160)),
    (emptied_nearly_two_leases_ago, Answers(may_launch=False, may_rebuild=False, term=2, dead_from=160)),
    (emptied_two_leases_ago, Answers(term=2)),
    (emptied_and_then_away, Answers(may_launch=False, may_rebuild=False, term=3, dead_from=185)),
    (
        emptied_and_then_answered_late,
        Answers(authoritative=False, may_launch=False, may_rebuild=False, term=3, dead_from=182),
    ),
    (emptied_and_away_afterwards, Answers(authoritative=False, may_rebuild=False, term=3, dead_from=200)),
    (restarted_with_its_data, Answers(may_launch=False, may_rebuild=False, dead_from=158)),
    (restarted_a_while_ago, Answers()),
    (failed_over_and_lost_the_lease, Answers(may_launch=False, may_rebuild=False, term=2, dead_from=160)),
    (clock_set_back, Answers(may_launch=False, may_rebuild=False, dead_from=180)),
    (clock_set_back_after_it_lapsed, Answers(may_rebuild=False, term=2, dead_from=163)),
    (silent_for_less_than_its_lease, Answers(may_rebuild=False, dead_from=165)),
    (silent_for_long, Answers(authoritative=False, may_rebuild=False, term=2, dead_from=300)),
    (silent_two_leases_ago, Answers()),
    (handed_over, Answers(term=2)),
]


@pytest.mark.parametrize(("story", "said"), TABLE, ids=[story.__name__ for story, _ in TABLE])
def test_what_a_worker_may_do(story: Callable[[Machine], None], said: Answers) -> None:
    machine = Machine()
    with capture_logs():
        story(machine)
    assert answers(machine) == said


def test_before_the_first_beat_nothing_is_held() -> None:
    lease = Machine().lease
    assert (lease.held, lease.is_authoritative, lease.term) == (False, False, 0)


def test_redis_time_goes_on_with_this_machine_s_clock_between_two_beats() -> None:
    machine = Machine()
    machine.begin()
    machine.at = 101.5
    assert machine.lease.now() == REDIS_0 + 101.5
    machine.redis_0 += 7
    machine.beat(103)
    machine.at = 104
    assert machine.lease.now() == REDIS_0 + 7 + 104


def test_another_run_of_the_server_is_known_by_its_name_and_told_once() -> None:
    machine = Machine()
    machine.begin()
    assert machine.lease.server_run == "g1 r1"
    with capture_logs() as told:
        machine.run, machine.runs_since = "r2", REDIS_0 + 101
        machine.beat(103)
        machine.beat(106)
        machine.generation = "g2"
        machine.beat(109, was_alive=False)
    assert machine.lease.server_run == "g2 r2"
    assert [entry["event"] for entry in told] == [
        "Redis began anew or failed over, its last writes may be lost: records are rebuilt",
        "Redis was emptied: records are rebuilt",
    ]


async def test_who_waits_for_the_lease_goes_on_with_the_next_beat() -> None:
    machine = Machine()
    renewed(machine)
    machine.at = 170
    waiting = [asyncio.create_task(machine.lease.until_held()) for _ in range(2)]
    await asyncio.sleep(0)
    machine.beat(150)  # an answer that comes when the lease is over again
    machine.at = 170
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    machine.beat(171)
    await asyncio.gather(*waiting)


async def test_who_waits_to_be_sure_of_its_jobs_waits_for_one_lease_after_it_lapsed() -> None:
    machine = Machine()
    renewed_after_it_lapsed_by_our_clock(machine)
    machine.beat(173)
    machine.at = 176.499
    waiting = asyncio.create_task(machine.lease.until_authoritative())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    machine.at = 176.5
    await waiting

"""The pod of the job's present attempt: what is known of it, and how it is removed.

The watch tells how a pod is; only a GET of its name proves that it is gone (404, or another uid).
"""

import asyncio
from contextlib import suppress
from typing import Any, Final

import structlog

from dispatcher.spec import JobSpec
from worker.cluster.client import Backoff, Cluster, ClusterRefusedError, ClusterUnavailableError
from worker.cluster.observation import Observation
from worker.cluster.pod_json import observe
from worker.cluster.watch import PodWatches
from worker.failpoints import Failpoint, failpoint

log = structlog.get_logger("podrelay.worker")

#: A pod that was told to go is looked at again after its grace and this long.
GONE_GRACE_S: Final = 15.0
#: A pod that is still there this long after its grace, or whose deletion is refused for this long, is given up.
GIVE_UP_GONE_S: Final = 75.0
#: The longest grace that is waited for: a pod may have more, and nothing is held for it.
LONGEST_GRACE_S: Final = 3600.0
#: How long to wait for the watch to show the deletion of a pod that is proved to be gone.
LAST_LOOK_S: Final = 10.0
#: A pod that the watch does not show, because somebody took its labels away, is looked at again after this long.
UNWATCHED_S: Final = 10.0


class JobPod:
    """What is known of the present attempt's pod. ``news`` is set whenever something is heard.

    Attributes:
        last: the last observation of it, also after its deletion.
        is_gone: its deletion was seen, or its absence proved.
        final_observation: how it was at its deletion, where that was seen.
    """

    def __init__(self, cluster: Cluster, watches: PodWatches, job_id: str, news: asyncio.Event) -> None:
        self.last: Observation | None = None
        self.is_gone = False
        self.final_observation: Observation | None = None
        self._is_in_doubt = False
        self._read_at = 0.0  # when it was last read other than by the watch, on the loop's clock
        self._job_id = job_id
        self._cluster = cluster
        self._watches = watches
        self._news = news
        self._log = log.bind(job_id=job_id)

    def begin(self, pod: Observation | None) -> None:
        """Begin with another attempt: its pod as created, None before that."""
        self.last, self.is_gone, self.final_observation, self._is_in_doubt = pod, False, None, False
        self._read_at = asyncio.get_running_loop().time()
        newer = self._watches.pod(pod.namespace, pod.name) if pod else None
        if pod is not None and newer is not None and (newer.uid, newer.job_id) == (pod.uid, pod.job_id):
            self.last = newer

    def changed(self, pod: Observation) -> None:
        """Take note of the pod that the watch shows."""
        self.last = pod
        self._news.set()

    def deleted(self, pod: Observation) -> None:
        """Take note of the pod's deletion, and how it was then."""
        self.last = self.final_observation = pod
        self.is_gone = self._is_in_doubt = True
        self._news.set()

    def mark_stale(self) -> None:
        """Have the pod read before it is trusted again: it may not be as the watch last showed it."""
        self._is_in_doubt = True
        self._news.set()

    async def present(self, spec: JobSpec, *, namespace: str, name: str, uid: str | None) -> Observation | None:
        """Return the pod as it is; None where its absence is proved.

        A deleted pod is still returned as it was last seen, where that shows its outcome.
        """
        if self.last is None and (gone := self._watches.gone(namespace, uid)):
            self.deleted(gone)
        elif self.last is None:
            self.last = self._watches.pod(namespace, name)
        if self.is_gone and (told := self._outcome(spec, uid)):
            return told
        if self.last is None or self.last.uid != uid or self._is_in_doubt or self.unwatched_s() == 0.0:
            self._is_in_doubt = False
            found = await self.read(namespace, name)
            if found is None or found.uid != uid:
                await self._until_told(namespace, name, uid)
                self.is_gone = self._is_in_doubt = True  # whoever asks again must find out again
                return self._outcome(spec, uid)
            self.last, self.is_gone = found, False  # only the watch's selector had lost it
            self._read_at = asyncio.get_running_loop().time()
        return self.last

    def unwatched_s(self) -> float | None:
        """In how many seconds to read a pod that the watch does not show; None while it does.

        Whoever may change pods may take away the labels by which the watch finds them.
        """
        if self.last is None:
            return None
        shown = self._watches.pod(self.last.namespace, self.last.name)
        if shown is not None and (shown.uid, shown.job_id) == (self.last.uid, self._job_id):
            return None
        return max(0.0, self._read_at + UNWATCHED_S - asyncio.get_running_loop().time())

    def _outcome(self, spec: JobSpec, uid: str | None) -> Observation | None:
        """Return the last observation, where it shows how the pod or its base container ended."""
        if self.last is None or self.last.uid != uid:
            return None
        base = self.last.container(spec.base_container)
        has_outcome = self.last.has_ended or (base is not None and base.state == "terminated")
        return self.last if has_outcome else None

    async def _until_told(self, namespace: str, name: str, uid: str | None) -> None:
        """Give a watch that lags behind the time to show the deletion.

        Its last observation tells who ended the pod; a 404 does not.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_LOOK_S):
                while not self.is_gone and (known := self._watches.pod(namespace, name)) and known.uid == uid:
                    self._news.clear()
                    await self._news.wait()

    async def read(self, namespace: str, name: str) -> Observation | None:
        """GET the pod, however long the API server is away; None: there is none of this name."""
        back_off = Backoff()
        while True:
            try:
                found = await self._cluster.read_pod(namespace, name)
                return observe(found) if found else None
            except (ClusterUnavailableError, ClusterRefusedError) as error:
                self._log.info("pod cannot be read", pod=name, why=str(error))
                await asyncio.sleep(back_off.failed(error))

    async def delete(self, pod: Observation) -> None:
        """Ask for the pod's deletion until the API server accepts it.

        Where it refuses for long, the pod is left to the sweep of stray pods.
        """
        back_off, loop = Backoff(), asyncio.get_running_loop()
        until = loop.time() + GIVE_UP_GONE_S
        while (error := await self.ask_to_go(pod)) is not None:
            if isinstance(error, ClusterUnavailableError):
                until = loop.time() + GIVE_UP_GONE_S
            elif loop.time() >= until:
                return
            await asyncio.sleep(back_off.failed(error))

    async def ask_to_go(self, pod: Observation) -> ClusterUnavailableError | ClusterRefusedError | None:
        """Ask once for the pod's deletion; None: the API server has accepted it, or the pod is gone."""
        try:
            is_there = await self._cluster.delete_pod(pod.namespace, pod.name, uid=pod.uid)
        except (ClusterUnavailableError, ClusterRefusedError) as error:
            self._log.warning("pod cannot be deleted", pod=pod.name, why=str(error))
            return error
        if not is_there:
            self.is_gone = self._is_in_doubt = True
        failpoint(Failpoint.POD_DELETED)
        return None

    async def patch(self, pod: Observation, metadata: dict[str, Any]) -> None:
        """Patch the pod's labels and annotations: repeats until the API server takes them or the pod is gone."""
        back_off = Backoff()
        while True:
            try:
                await self._cluster.patch_pod(pod.namespace, pod.name, {"uid": pod.uid, **metadata})
                return
            except (ClusterUnavailableError, ClusterRefusedError) as error:
                self._log.warning("pod cannot be marked", pod=pod.name, why=str(error))
                await asyncio.sleep(back_off.failed(error))

    async def until_gone(self, pod: Observation, grace_s: float) -> None:
        """Wait until the pod is gone; a GET proves it where the watch does not tell.

        Gives up long after its grace (its node does not answer), and sooner where nothing of it runs any more (a
        finalizer holds it).
        """
        loop = asyncio.get_running_loop()
        grace_s = min(grace_s, LONGEST_GRACE_S)
        until = loop.time() + grace_s + GIVE_UP_GONE_S
        while not self.is_gone and loop.time() < until:
            self._news.clear()
            try:
                async with asyncio.timeout(min(grace_s + GONE_GRACE_S, until - loop.time())):
                    await self._news.wait()
            except TimeoutError:
                self._is_in_doubt = True
            if self._is_in_doubt and not self.is_gone:
                self._is_in_doubt = False
                found = await self.read(pod.namespace, pod.name)
                self.is_gone = found is None or found.uid != pod.uid
                if found is not None and found.is_being_deleted and found.has_ended:
                    break
        if not self.is_gone:
            self._log.warning("pod does not go, nobody waits for it any more", pod=pod.name)

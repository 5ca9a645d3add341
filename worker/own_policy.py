"""The policy in force in this process: what the settings say, and what the worker finds out about itself.

Its service account is known from its token, without a request. Which secrets its own pod uses is read from that pod,
once, before the first job that would run beside it: only there can a job name them, and may the worker read pods.
"""

import asyncio
from dataclasses import replace

import structlog

from worker.cluster.client import Cluster
from worker.cluster.service_account import ServiceAccount
from worker.rules.own_credentials import OwnCredentials
from worker.rules.policy import Policy, policy_of
from worker.settings import WorkerSettings

log = structlog.get_logger("podrelay.worker")


class OwnPolicy:
    """One worker's policy. Belongs to one event loop.

    Attributes:
        policy: without the secrets of its own pod until :meth:`beside_own_pod` has read them.
    """

    def __init__(
        self, settings: WorkerSettings, cluster: Cluster, account: ServiceAccount | None, *, namespaces: frozenset[str]
    ) -> None:
        self._account = account
        own = None if account is None else OwnCredentials(account.namespace, account.name)
        self.policy: Policy = policy_of(settings, namespaces, own)
        self._cluster = cluster
        self._reading = asyncio.Lock()
        self._is_complete = own is None or own.namespace not in namespaces

    async def beside_own_pod(self, namespace: str) -> Policy | None:
        """Return the policy with the secrets of the worker's own pod; None where jobs do not run beside it.

        Raises:
            ClusterUnavailableError: the pod cannot be read now.
            ClusterRefusedError: it may not be read.
        """
        own = self.policy.own
        if own is None or own.namespace != namespace:
            return None
        async with self._reading:
            if not self._is_complete:
                self.policy = replace(self.policy, own=await self._with_secrets(own))
                self._is_complete = True
        return self.policy

    async def _with_secrets(self, own: OwnCredentials) -> OwnCredentials:
        name = self._account.pod if self._account else ""
        pod = await self._cluster.read_pod(own.namespace, name) if name else None
        if pod is None:
            log.warning("own secrets not known: the token names no pod", pod=name, namespace=own.namespace)
            return own
        return own.with_pod(pod.get("spec") or {})

    def tell(self, default_namespace: str) -> None:
        """Log what is risky or easily overlooked in where this worker runs jobs."""
        own, served = self.policy.own, self.policy.namespaces
        if own is not None and own.namespace in served:
            is_pod_known = self._account is not None and self._account.pod
            log.warning(
                "jobs run beside this worker: give them a namespace of their own (PODRELAY_NAMESPACES)",
                namespace=own.namespace,
                service_account=own.service_account,
                refused="this service account" + (", and the secrets of this pod" if is_pod_known else ""),
            )
        if default_namespace not in served:
            log.warning(
                "jobs that name no namespace are left to other workers: PODRELAY_DEFAULT_NAMESPACE is not served",
                default_namespace=default_namespace,
                namespaces=sorted(served),
            )

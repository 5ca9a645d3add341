"""The clusters that the contract is checked on: the pocket cluster, and the one `PODRELAY_TEST_KUBECONFIG` names."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from devcluster.cluster import PocketCluster
from tests.support.cluster_driver import ClusterDriver

REAL = os.environ.get("PODRELAY_TEST_KUBECONFIG", "")


_PARAMS = ["pocket", *(["real"] if REAL else [])]


@pytest_asyncio.fixture(name="cluster", scope="module", loop_scope="module", params=_PARAMS)
async def every_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ClusterDriver]:
    """A driver for one cluster; a test that needs what only the pocket cluster offers is to skip on others."""
    if request.param == "real":
        async with ClusterDriver(Path(REAL), is_pocket=False) as driver:
            yield driver
        return
    kubeconfig = tmp_path_factory.mktemp("pocket") / "kubeconfig"
    async with PocketCluster() as pocket:
        pocket.write_kubeconfig(kubeconfig)
        async with ClusterDriver(kubeconfig, is_pocket=True) as driver:
            driver.pocket = pocket
            yield driver

from typing import Any

import pytest

from dispatcher.spec import JobSpec
from worker.rules.manifest import manifest
from worker.rules.policy import violations


def judged(**fields: Any) -> list[str]:
    spec = JobSpec(id="j", image="x", **fields)
    pod = manifest(spec, attempt=1, namespace="jobs", installation="prod", return_value_image="busybox")
    return violations(pod, namespaces={"jobs"})


def test_an_ordinary_pod_may_be_created() -> None:
    assert judged(return_value=True, volumes=({"name": "v", "emptyDir": {}},), ports=({"containerPort": 80},)) == []


def test_another_namespace_is_refused_and_those_served_are_named() -> None:
    (problem,) = judged(namespace="kube-system")
    assert problem.startswith("metadata.namespace: 'kube-system' is not served by this worker (served: jobs)")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"host_network": True}, "spec.hostNetwork"),
        ({"pod_template": {"spec": {"hostPID": True}}}, "spec.hostPID"),
        ({"pod_template": {"spec": {"hostIPC": True}}}, "spec.hostIPC"),
        ({"volumes": ({"name": "v", "hostPath": {"path": "/"}},)}, "spec.volumes[0].hostPath"),
        ({"container_security_context": {"privileged": True}}, "spec.containers[0].securityContext.privileged"),
        (
            {"init_containers": ({"name": "i", "image": "x", "securityContext": {"privileged": True}},)},
            "spec.initContainers[0].securityContext.privileged",
        ),
        (
            {"container_security_context": {"capabilities": {"add": ["SYS_ADMIN"]}}},
            "spec.containers[0].securityContext.capabilities.add: SYS_ADMIN",
        ),
        ({"container_security_context": {"procMount": "Unmasked"}}, "spec.containers[0].securityContext.procMount"),
        ({"ports": ({"containerPort": 80, "hostPort": 80},)}, "spec.containers[0].ports"),
        ({"security_context": {"windowsOptions": {"hostProcess": True}}}, "spec.securityContext.windowsOptions"),
    ],
)
def test_nothing_of_the_node_is_allowed(fields: dict[str, Any], path: str) -> None:
    (problem,) = judged(**fields)
    assert problem.startswith(path)

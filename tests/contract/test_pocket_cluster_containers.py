"""What containers find: environment, volumes, images, simulations; and what happens to them from outside."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.cluster_driver import ClusterDriver, pods, process_end, simple_pod, state_of
from tests.support.cluster_fixture import every_cluster  # noqa: F401  # the fixture `cluster`

pytestmark = pytest.mark.asyncio(loop_scope="module")
Json = dict[str, Any]
RETURN = "/airflow/xcom/return.json"


async def final(cluster: ClusterDriver, namespace: str, name: str = "job") -> Json:
    """The pod at its final phase."""
    return await when(cluster, namespace, lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed"), name)


async def when(cluster: ClusterDriver, namespace: str, claim: Any, name: str = "job") -> Json:
    """The pod once a claim holds."""
    async with asyncio.timeout(60):
        async for event in cluster.stream(pods(namespace, query=f"watch=1&fieldSelector=metadata.name%3D{name}")):
            found: Json = event["object"]
            if event["type"] != "DELETED" and claim(found):
                return found
    raise AssertionError("the watch ended")


async def gone(cluster: ClusterDriver, namespace: str, since: Json) -> Json:
    """The last version of a pod, which was last seen as `since`."""
    query = f"watch=1&resourceVersion={since['metadata']['resourceVersion']}"
    async with asyncio.timeout(60):
        async for event in cluster.stream(pods(namespace, query=query)):
            if event["type"] == "DELETED":
                found: Json = event["object"]
                return found
    raise AssertionError("the watch ended")


async def run(cluster: ClusterDriver, pod: Json, namespace: str = "") -> tuple[Json, str]:
    """A pod's end and what its base container wrote."""
    namespace = namespace or await cluster.namespace()
    reply = await cluster.request("POST", pods(namespace), pod)
    assert reply.status == 201, reply.body
    ended = await final(cluster, namespace, pod["metadata"]["name"])
    log = await cluster.request("GET", pods(namespace, f"{pod['metadata']['name']}/log", "container=base"))
    return ended, log.body.decode()


def only_pocket(cluster: ClusterDriver, why: str) -> None:
    if not cluster.is_pocket:
        pytest.skip(why)


def with_return_value(name: str, image: str, command: list[str], sidecar: Json | None = None) -> Json:
    pod = simple_pod(name, image, command)
    mounts = [{"name": "x", "mountPath": "/airflow/xcom"}]
    pod["spec"]["volumes"] = [{"name": "x", "emptyDir": {}}]
    pod["spec"]["containers"][0]["volumeMounts"] = mounts
    script = f"trap 'cat {RETURN} 2>/dev/null; exit 0' TERM; while true; do sleep 0.1; done"
    reader = sidecar or {"image": "busybox:1.36", "command": ["sh", "-c", script]}
    reader |= {"name": "return-value", "restartPolicy": "Always", "volumeMounts": mounts}
    pod["spec"]["initContainers"] = [reader]
    return pod


async def test_two_pods_do_not_see_each_others_return_value(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    code = "import json, sys; json.dump({{'a': {n}}}, open('/airflow/xcom/return.json', 'w'))"
    names = ("one", "two")
    for at, name in enumerate(names):
        pod = with_return_value(name, "python:3.12", ["python", "-c", code.format(n=at)])
        await cluster.request("POST", pods(namespace), pod)
    await asyncio.gather(*(final(cluster, namespace, name) for name in names))
    for at, name in enumerate(names):
        log = await cluster.request("GET", pods(namespace, f"{name}/log", "container=return-value"))
        assert log.json == {"a": at}


async def test_environment_comes_from_everywhere(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    secret = {"metadata": {"name": "s"}, "stringData": {"user": "me"}}
    settings = {"metadata": {"name": "c"}, "data": {"mode": "fast"}}
    await cluster.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    await cluster.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", settings)
    pod = simple_pod("job", "busybox:1.36", ["sh", "-c"])
    pod["metadata"] |= {"labels": {"app": "x"}, "annotations": {"note": "y"}}
    pod["spec"]["containers"][0] |= {
        "args": ['echo "$A|$B|$C|$D|$E|$F|$G|$c_mode|$(A)|$$(A)"'],
        "envFrom": [{"prefix": "c_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "no", "optional": True}}],
        "resources": {"limits": {"memory": "64Mi"}},
        "env": [
            {"name": "A", "value": "a"},
            {"name": "B", "value": "$(A)b$(NONE)"},
            {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "user"}}},
            {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['note']"}}},
            {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "G", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        ],
    }
    _ended, log = await run(cluster, pod, namespace)
    # `$(A)` is expanded before the shell, `$$(A)` is left to it, which then runs a command `A` that does not exist.
    assert "a|ab$(NONE)|me|x|y|job|64|fast|a|" in log.splitlines()  # what the shell says stands before or behind it


async def test_secrets_and_config_maps_are_files(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    secret = {"metadata": {"name": "s"}, "stringData": {"user": "me"}}
    settings = {"metadata": {"name": "c"}, "data": {"mode": "fast"}}
    await cluster.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    await cluster.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", settings)
    pod = simple_pod("job", "busybox:1.36", ["sh", "-c", "cat /etc/s/user /etc/c/deep/m /etc/d/name"])
    pod["spec"]["volumes"] = [
        {"name": "s", "secret": {"secretName": "s"}},
        {"name": "c", "configMap": {"name": "c", "items": [{"key": "mode", "path": "deep/m"}]}},
        {"name": "d", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    mounts = [{"name": name, "mountPath": f"/etc/{name}"} for name in "scd"]
    pod["spec"]["containers"][0]["volumeMounts"] = mounts
    assert (await run(cluster, pod, namespace))[1] == "mefastjob"


async def test_a_shell_image_has_no_python_but_a_python_image_has_a_shell(cluster: ClusterDriver) -> None:
    _, log = await run(cluster, simple_pod("job", "busybox:1.36", ["sh", "-c", "command -v python python3; echo none"]))
    assert log == "none\n"
    _, log = await run(
        cluster, simple_pod("job", "python:3.12", ["sh", "-c", "python -c 'print(1)'; python3 -c 'print(2)'"])
    )
    assert log == "1\n2\n"


async def test_a_python_container_does_not_see_our_packages(cluster: ClusterDriver) -> None:
    code = "import importlib.util as u; print([n for n in ('aiohttp', 'kubernetes', 'airflow') if u.find_spec(n)])"
    assert (await run(cluster, simple_pod("job", "python:3.12", ["python", "-c", code])))[1] == "[]\n"


@pytest.mark.parametrize(("image", "phase"), [("python:3.12", "Succeeded"), ("busybox:1.36", "Succeeded")])
async def test_without_a_command_the_image_has_its_own(cluster: ClusterDriver, image: str, phase: str) -> None:
    assert (await run(cluster, simple_pod("job", image)))[0]["status"]["phase"] == phase


async def test_arguments_alone_follow_no_entry_point(cluster: ClusterDriver) -> None:
    pod = simple_pod("job", "busybox:1.36")
    pod["spec"]["containers"][0]["args"] = ["echo", "hello"]
    assert (await run(cluster, pod))[1] == "hello\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program", 'exec: "no-such-program": executable file not found in $PATH: unknown'),
        ("/no/such", 'exec: "/no/such": stat /no/such: no such file or directory: unknown'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied: unknown'),
    ],
)
async def test_what_cannot_be_executed_is_a_start_error(cluster: ClusterDriver, command: str, message: str) -> None:
    ended, _ = await run(cluster, simple_pod("job", "busybox:1.36", [command]))
    state = state_of(ended)["terminated"]
    assert (state["exitCode"], state["reason"]) == (128, "StartError")
    assert state["message"].endswith(message)


async def test_what_a_container_leaves_behind_dies_with_it(cluster: ClusterDriver) -> None:
    only_pocket(cluster, "processes of a real node cannot be looked at")
    _, log = await run(cluster, simple_pod("job", "busybox:1.36", ["sh", "-c", "sleep 300 & echo $!"]))
    await process_end(int(log))


async def test_termination_message_falls_back_to_the_log(cluster: ClusterDriver) -> None:
    pod = simple_pod("job", "busybox:1.36", ["sh", "-c", "echo last words; exit 3"])
    pod["spec"]["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError"
    ended, _ = await run(cluster, pod)
    assert state_of(ended)["terminated"]["message"] == "last words\n"


async def test_host_paths_are_refused_with_an_event(cluster: ClusterDriver) -> None:
    only_pocket(cluster, "a real cluster may allow them")
    namespace = await cluster.namespace()
    pod = simple_pod("job", "busybox:1.36", ["true"], volumes=[{"name": "h", "hostPath": {"path": "/etc"}}])
    await cluster.request("POST", pods(namespace), pod)
    query = "watch=1&fieldSelector=reason%3DFailedMount"
    async for event in cluster.stream(f"/api/v1/namespaces/{namespace}/events?{query}"):
        assert "hostPath: the pocket cluster refuses this kind of volume" in event["object"]["message"]
        break


async def test_a_simulated_container_writes_so_many_lines_and_ends_so(cluster: ClusterDriver) -> None:
    only_pocket(cluster, "no such image elsewhere")
    pod = simple_pod("job", "simulated:1", ["--lines=5", "--line-bytes=20", "--rate=200", "--exit-code=7"])
    ended, log = await run(cluster, pod)
    assert state_of(ended)["terminated"]["exitCode"] == 7
    assert [len(line) + 1 for line in log.splitlines()] == [20] * 5
    assert [line.split()[1] for line in log.splitlines()] == list("01234")


async def test_a_simulated_container_has_a_return_value(cluster: ClusterDriver) -> None:
    only_pocket(cluster, "no such image elsewhere")
    pod = with_return_value("real-reader", "simulated:1", ['--return-value={"n": 1}'])
    simulated = {"image": "simulated:1", "command": [f"--print-on-term={RETURN}", "--duration=3600"]}
    other = with_return_value("simulated-reader", "simulated:1", ['--return-value={"n": 2}'], simulated)
    namespace = await cluster.namespace()
    for number, one in enumerate((pod, other), 1):
        await run(cluster, one, namespace)
        path = pods(namespace, f"{one['metadata']['name']}/log", "container=return-value")
        assert (await cluster.request("GET", path)).json == {"n": number}


async def test_simulated_lines_may_share_a_timestamp(cluster: ClusterDriver) -> None:
    only_pocket(cluster, "no such image elsewhere")
    namespace = await cluster.namespace()
    await run(cluster, simple_pod("job", "simulated:1", ["--lines=9", "--same-timestamps=3"]), namespace)
    log = (await cluster.request("GET", pods(namespace, "job/log", "timestamps=true"))).body
    assert len({line.split()[0] for line in log.splitlines()}) == 3


@pytest.mark.parametrize(
    ("option", "code"), [("--duration=60", 143), ("--ignore-term", 137), ("--term-exit-code=0", 0)]
)
async def test_a_simulated_container_takes_term_as_told(cluster: ClusterDriver, option: str, code: int) -> None:
    only_pocket(cluster, "no such image elsewhere")
    namespace = await cluster.namespace()
    pod = simple_pod("job", "simulated:1", ["--duration=60", option], terminationGracePeriodSeconds=1)
    await cluster.request("POST", pods(namespace), pod)
    seen = await when(cluster, namespace, lambda pod: "running" in state_of(pod))
    await cluster.request("DELETE", pods(namespace, "job"))
    assert state_of(await gone(cluster, namespace, seen))["terminated"]["exitCode"] == code


async def test_an_unknown_simulated_option_is_a_start_error(cluster: ClusterDriver) -> None:
    only_pocket(cluster, "no such image elsewhere")
    ended, _ = await run(cluster, simple_pod("job", "simulated:1", ["--line=5"]))
    assert "no option '--line=5'" in state_of(ended)["terminated"]["message"]


async def test_preemption_is_a_disruption(cluster: ClusterDriver) -> None:
    only_pocket(cluster, "preemption cannot be asked for")
    namespace = await cluster.namespace()
    pod = simple_pod("job", "busybox:1.36", ["sleep", "60"], terminationGracePeriodSeconds=0)
    await cluster.request("POST", pods(namespace), pod)
    await when(cluster, namespace, lambda pod: "running" in state_of(pod))
    cluster.pocket.preempt(namespace, "job")
    reply = await cluster.request("GET", pods(namespace, "job"))
    assert reply.status == 404  # no grace: gone at once


async def test_a_node_short_of_memory_fails_a_pod_and_keeps_it(cluster: ClusterDriver) -> None:
    only_pocket(cluster, "node pressure cannot be asked for")
    namespace = await cluster.namespace()
    await cluster.request("POST", pods(namespace), simple_pod("job", "busybox:1.36", ["sleep", "60"]))
    await when(cluster, namespace, lambda pod: "running" in state_of(pod))
    cluster.pocket.evict_for_pressure(namespace, "job")
    ended = await final(cluster, namespace)
    assert (ended["status"]["phase"], ended["status"]["reason"]) == ("Failed", "Evicted")
    assert "deletionTimestamp" not in ended["metadata"]
    reasons = [one.get("reason") for one in ended["status"]["conditions"] if one["type"] == "DisruptionTarget"]
    assert reasons == ["TerminationByKubelet"]


async def test_a_pod_deleted_before_it_ran_goes_too(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    await cluster.request("POST", pods(namespace), simple_pod("job", "registry.invalid/no:1", ["true"]))
    seen = await when(cluster, namespace, lambda pod: state_of(pod).get("waiting", {}).get("reason") == "ErrImagePull")
    await cluster.request("DELETE", pods(namespace, "job"))
    assert (await gone(cluster, namespace, seen))["status"]["phase"] == "Failed"


async def test_an_image_that_comes_up_later_is_pulled(cluster: ClusterDriver) -> None:
    only_pocket(cluster, "a registry cannot be repaired from here")
    namespace = await cluster.namespace()
    await cluster.request("POST", pods(namespace), simple_pod("job", "registry.invalid/late:1", ["true"]))
    await when(cluster, namespace, lambda pod: state_of(pod).get("waiting", {}).get("reason") == "ImagePullBackOff")
    cluster.pocket.add_image("registry.invalid/late:1", "busybox")
    assert (await final(cluster, namespace))["status"]["phase"] == "Succeeded"


async def test_the_record_knows_every_pod_and_every_byte(cluster: ClusterDriver) -> None:
    only_pocket(cluster, "a real cluster keeps no such record")
    namespace = await cluster.namespace()
    pod = simple_pod("job", "busybox:1.36", ["sh", "-c", "printf one; echo two >&2"])
    ended, _ = await run(cluster, pod, namespace)
    await cluster.request("DELETE", pods(namespace, "job"))
    reply = await cluster.request("GET", "/pocket/pods")
    (record,) = [one for one in reply.json["pods"] if one["uid"] == ended["metadata"]["uid"]]
    assert record["deleted_at"] is not None
    assert (record["containers"]["base"]["bytes"], record["containers"]["base"]["starts"]) == (7, 1)
    assert json.loads((await cluster.request("GET", "/pocket/requests")).body)["requests"]["create pods"] > 0

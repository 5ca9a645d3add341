"""The Pod Security Standards, control by control: what each refuses, and what comes near it and passes.

The verdicts are those of a Kubernetes 1.36 API server in a namespace with ``enforce: baseline`` or ``restricted``.
"""

from typing import Any

import pytest

from dispatcher.spec import JobSpec
from worker.rules.manifest import manifest
from worker.rules.pod_security import CONTROLS, Level, findings

Json = dict[str, Any]
LISTS = ("containers", "initContainers", "ephemeralContainers")
BASE: Json = {"name": "base", "image": "x"}
#: What makes any pod pass `restricted`.
CONFINED: Json = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
CONFINED_POD: Json = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def pod(*, annotations: Json | None = None, base: Json | None = None, **spec: Any) -> Json:
    """A pod with these fields; ``base``: what its one container has."""
    given = {"containers": [{**BASE, **(base or {})}], **spec}
    return {"metadata": {"name": "p", "annotations": annotations or {}}, "spec": given}


def confined(*, base: Json | None = None, security: Json | None = None, **spec: Any) -> Json:
    """A pod that passes `restricted`, but for what is given."""
    fields = base or {}
    context = {**CONFINED, **(fields.get("securityContext") or {})}
    of_pod = {**CONFINED_POD, **(security or {})}
    return pod(base={**fields, "securityContext": context}, securityContext=of_pod, **spec)


def refused_by(manifest: Json, level: Level) -> set[str]:
    return {finding.control.name for finding in findings(manifest, level)}


#: For security contexts: the control, what it refuses, and what passes beside that.
OF_CONTAINERS: list[tuple[str, list[Json], list[Json]]] = [
    (
        "appArmorProfile",
        [{"appArmorProfile": {"type": "Unconfined"}}, {"appArmorProfile": {}}],
        [
            {"appArmorProfile": {"type": "RuntimeDefault"}},
            {"appArmorProfile": {"type": "Localhost", "localhostProfile": "x"}},
            {"appArmorProfile": None},
        ],
    ),
    (
        "seccompProfile_baseline",
        [{"seccompProfile": {"type": "Unconfined"}}, {"seccompProfile": {}}],
        [
            {"seccompProfile": {"type": "RuntimeDefault"}},
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "x.json"}},
            {"seccompProfile": None},
        ],
    ),
    (
        "seLinuxOptions",
        [
            {"seLinuxOptions": {"type": "spc_t"}},
            {"seLinuxOptions": {"user": "system_u"}},
            {"seLinuxOptions": {"role": "system_r"}},
            {"seLinuxOptions": {"type": "container_t", "role": "system_r"}},
        ],
        [
            *({"seLinuxOptions": {"type": f"container_{kind}t"}} for kind in ("", "init_", "kvm_", "engine_")),
            {"seLinuxOptions": {"level": "s0:c1,c2"}},
            {"seLinuxOptions": {"type": "", "user": "", "role": ""}},
            {"seLinuxOptions": {}},
        ],
    ),
    (
        "windowsHostProcess",
        [{"windowsOptions": {"hostProcess": True}}],
        [{"windowsOptions": {"hostProcess": False}}, {"windowsOptions": {"runAsUserName": "x"}}],
    ),
    ("privileged", [{"privileged": True}], [{"privileged": False}, {"privileged": None}]),
    ("procMount", [{"procMount": "Unmasked"}], [{"procMount": "Default"}, {"procMount": None}]),
    (
        "capabilities_baseline",
        [
            *({"capabilities": {"add": [name]}} for name in ("SYS_ADMIN", "NET_RAW", "ALL", "SYS_PTRACE", "chown")),
            {"capabilities": {"add": ["CHOWN", "NET_ADMIN"]}},
        ],
        [
            {"capabilities": {"add": ["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"]}},
            {"capabilities": {"add": ["NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"]}},
            {"capabilities": {"add": [], "drop": ["ALL"]}},
            {"capabilities": {}},
        ],
    ),
]
#: Those that a pod has for all of its containers.
OF_PODS_TOO = ("appArmorProfile", "seccompProfile_baseline", "seLinuxOptions", "windowsHostProcess")


@pytest.mark.parametrize("where", LISTS)
@pytest.mark.parametrize(("control", "refused", "allowed"), OF_CONTAINERS, ids=[case[0] for case in OF_CONTAINERS])
def test_what_a_security_context_may_hold_is_the_same_in_every_list_of_containers(
    control: str, refused: list[Json], allowed: list[Json], where: str
) -> None:
    for context in refused:
        assert refused_by(pod(**{where: [BASE, {**BASE, "securityContext": context}]}), Level.BASELINE) == {control}
    for context in allowed:
        assert not refused_by(pod(**{where: [{**BASE, "securityContext": context}]}), Level.BASELINE)


@pytest.mark.parametrize(("control", "refused", "allowed"), OF_CONTAINERS, ids=[case[0] for case in OF_CONTAINERS])
def test_a_pod_s_security_context_is_judged_where_the_control_has_one(
    control: str, refused: list[Json], allowed: list[Json]
) -> None:
    expected = {control} if control in OF_PODS_TOO else set[str]()
    for context in refused:
        assert refused_by(pod(securityContext=context), Level.BASELINE) == expected
    for context in allowed:
        assert not refused_by(pod(securityContext=context), Level.BASELINE)


APPARMOR = "container.apparmor.security.beta.kubernetes.io"
PODS: list[tuple[str, list[Json], list[Json]]] = [
    (
        "hostNamespaces",
        [pod(hostNetwork=True), pod(hostPID=True), pod(hostIPC=True)],
        [pod(hostNetwork=False, hostPID=None), pod(shareProcessNamespace=True)],
    ),
    (
        "hostPathVolumes",
        [
            pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}]),
            pod(volumes=[{"name": "v", "hostPath": {}}]),
            pod(volumes=[{"name": "u", "emptyDir": {}}, {"name": "v", "hostPath": {"path": "/x", "type": "File"}}]),
        ],
        [pod(volumes=[{"name": "v", "hostPath": None}, {"name": "w", "nfs": {"server": "s", "path": "/"}}])],
    ),
    (
        "sysctls",
        [
            pod(securityContext={"sysctls": [{"name": name, "value": "1"}]})
            for name in ("kernel.msgmax", "net.core.somaxconn", "net.ipv4.tcp_syncookies ", "")
        ],
        [
            pod(securityContext={"sysctls": [{"name": name, "value": "1"}]})
            for name in (
                *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"),
                *("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout"),
                *("net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time"),
                *("net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem"),
            )
        ],
    ),
    (
        "appArmorProfile",
        [
            pod(annotations={f"{APPARMOR}/{who}": profile})
            for who in ("base", "nobody")
            for profile in ("unconfined", "x")
        ],
        [
            pod(annotations={f"{APPARMOR}/base": profile})
            for profile in ("runtime/default", "localhost/x", "localhost/", "")
        ],
    ),
    (
        "procMount",
        [pod(hostUsers=True, base={"securityContext": {"procMount": "Unmasked"}})],
        [pod(hostUsers=False, base={"securityContext": {"procMount": "Unmasked"}})],
    ),
]


@pytest.mark.parametrize(("control", "refused", "allowed"), PODS, ids=[case[0] for case in PODS])
def test_what_else_a_pod_may_hold_at_baseline(control: str, refused: list[Json], allowed: list[Json]) -> None:
    for one in refused:
        assert refused_by(one, Level.BASELINE) == {control}
        assert not refused_by(one, Level.PRIVILEGED)
    for one in allowed:
        assert not refused_by(one, Level.BASELINE)


@pytest.mark.parametrize("where", LISTS)
def test_no_port_of_the_node_is_taken(where: str) -> None:
    for ports in ([{"containerPort": 80, "hostPort": 80}], [{"containerPort": 1}, {"containerPort": 2, "hostPort": 1}]):
        assert refused_by(pod(**{where: [{**BASE, "ports": ports}]}), Level.BASELINE) == {"hostPorts"}
    for ports in ([], [{"containerPort": 80, "hostPort": 0}], [{"containerPort": 80, "hostIP": "10.0.0.1"}]):
        assert not refused_by(pod(**{where: [{**BASE, "ports": ports}]}), Level.BASELINE)


@pytest.mark.parametrize("where", LISTS)
@pytest.mark.parametrize("handler", ["livenessProbe", "readinessProbe", "startupProbe", "postStart", "preStop"])
@pytest.mark.parametrize("by", ["httpGet", "tcpSocket"])
def test_no_probe_and_no_hook_asks_another_host(where: str, handler: str, by: str) -> None:
    for host in ("127.0.0.1", "node", " "):
        field: Json = {handler: {by: {"host": host, "port": 80}}}
        fields = field if handler.endswith("Probe") else {"lifecycle": field}
        assert refused_by(pod(**{where: [{**BASE, **fields}]}), Level.BASELINE) == {"hostProbesAndHostLifecycle"}
    for target in ({"port": 80}, {"port": 80, "host": ""}, {"port": 80, "host": None}):
        field = {handler: {by: target}}
        fields = field if handler.endswith("Probe") else {"lifecycle": field}
        assert not refused_by(pod(**{where: [{**BASE, **fields}]}), Level.BASELINE)


RESTRICTED: list[tuple[str, list[Json], list[Json]]] = [
    (
        "allowPrivilegeEscalation",
        [confined(base={"securityContext": {"allowPrivilegeEscalation": value}}) for value in (None, True)],
        [confined()],
    ),
    (
        "capabilities_restricted",
        [
            *(
                confined(base={"securityContext": {"capabilities": capabilities}})
                for capabilities in (
                    *(None, {}, {"drop": []}, {"drop": ["NET_RAW"]}, {"drop": ["all"]}),
                    {"drop": ["ALL"], "add": ["CHOWN"]},
                    {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CHOWN"]},
                )
            ),
        ],
        [
            confined(base={"securityContext": {"capabilities": capabilities}})
            for capabilities in ({"drop": ["KILL", "ALL"]}, {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})
        ],
    ),
    (
        "restrictedVolumes",
        [
            confined(volumes=[{"name": "v", kind: {}}])
            for kind in (
                *("awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "fc", "flexVolume", "flocker"),
                *(
                    "gcePersistentDisk",
                    "gitRepo",
                    "glusterfs",
                    "iscsi",
                    "nfs",
                    "photonPersistentDisk",
                    "portworxVolume",
                ),
                *("quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume", "aKindThatIsStillToCome"),
            )
        ],
        [
            *(
                confined(volumes=[{"name": "v", kind: {}}])
                for kind in (
                    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim"),
                    *("projected", "secret"),
                )
            ),
            confined(volumes=[{"name": "v"}, {"name": "w", "nfs": None, "emptyDir": {}}]),
        ],
    ),
    (
        "runAsNonRoot",
        [
            confined(security={"runAsNonRoot": None}),
            confined(security={"runAsNonRoot": False}),
            confined(security={"runAsNonRoot": False}, base={"securityContext": {"runAsNonRoot": True}}),
            confined(base={"securityContext": {"runAsNonRoot": False}}),
        ],
        [
            confined(security={"runAsNonRoot": None}, base={"securityContext": {"runAsNonRoot": True}}),
            confined(security={"runAsNonRoot": None}, hostUsers=False),
        ],
    ),
    (
        "runAsUser",
        [confined(security={"runAsUser": 0}), confined(base={"securityContext": {"runAsUser": 0}})],
        [
            confined(security={"runAsUser": 1}, base={"securityContext": {"runAsUser": 65534}}),
            confined(security={"runAsUser": 0}, hostUsers=False),
        ],
    ),
    (
        "seccompProfile_restricted",
        [confined(security={"seccompProfile": None})],
        [
            confined(
                security={"seccompProfile": None},
                base={"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},
            ),
            confined(security={"seccompProfile": {"type": "Localhost", "localhostProfile": "x"}}),
        ],
    ),
]


@pytest.mark.parametrize(("control", "refused", "allowed"), RESTRICTED, ids=[case[0] for case in RESTRICTED])
def test_what_a_pod_may_hold_at_restricted(control: str, refused: list[Json], allowed: list[Json]) -> None:
    for one in refused:
        assert refused_by(one, Level.RESTRICTED) == {control}
        assert not refused_by(one, Level.BASELINE)
    for one in allowed:
        assert not refused_by(one, Level.RESTRICTED)


@pytest.mark.parametrize("where", LISTS)
def test_each_container_of_every_list_is_confined_at_restricted(where: str) -> None:
    given = confined()["spec"]
    given[where] = [*(given["containers"] if where == "containers" else []), BASE]
    found = refused_by({"metadata": {}, "spec": given}, Level.RESTRICTED)
    assert found == {"allowPrivilegeEscalation", "capabilities_restricted"}


def test_a_pod_for_windows_need_not_set_what_only_linux_has() -> None:
    given = pod(os={"name": "windows"}, securityContext={"runAsNonRoot": True})
    assert not refused_by(given, Level.RESTRICTED)
    given["spec"]["os"] = {"name": "linux"}
    assert refused_by(given, Level.RESTRICTED) == {
        *("allowPrivilegeEscalation", "capabilities_restricted", "seccompProfile_restricted"),
    }


def test_what_baseline_refuses_is_refused_at_restricted_too() -> None:
    for _, refused, _ in PODS:
        for one in refused:
            assert refused_by(one, Level.BASELINE) <= refused_by(one, Level.RESTRICTED)
    unmasked = confined(hostUsers=False, base={"securityContext": {"procMount": "Unmasked"}})
    assert refused_by(unmasked, Level.RESTRICTED) == {"procMount_restricted"}


def test_every_control_has_its_cases() -> None:
    tried = {control for control, _, _ in (*OF_CONTAINERS, *PODS, *RESTRICTED)}
    others = {"hostPorts", "hostProbesAndHostLifecycle", "procMount_restricted"}
    assert tried | others == {control.name for control in CONTROLS}


@pytest.mark.parametrize("level", [Level.BASELINE, Level.RESTRICTED])
def test_the_sidecar_of_a_return_value_passes_where_its_job_does(level: Level) -> None:
    context = CONFINED if level is Level.RESTRICTED else None
    of_pod = CONFINED_POD if level is Level.RESTRICTED else None
    spec = JobSpec(id="j", image="x", return_value=True, container_security_context=context, security_context=of_pod)
    built = manifest(spec, attempt=1, namespace="jobs", installation="i", return_value_image="busybox")
    assert len(built["spec"]["initContainers"]) == 1
    assert not refused_by(built, level)


@pytest.mark.parametrize(
    "odd",
    [
        {"containers": "x"},
        {"containers": [1, None]},
        {"securityContext": ["x"]},
        {"volumes": {"hostPath": {}}},
        {"volumes": [["hostPath"]]},
        {"containers": [{"ports": {"hostPort": 1}}]},
        {"containers": [{"securityContext": {"capabilities": {"add": {"SYS_ADMIN": 1}}}}]},
        {"hostNetwork": "true"},
        {"hostNetwork": 1},
        {"hostPID": {}},
    ],
)
def test_what_is_not_shaped_like_a_pod_is_not_taken_for_harmless(odd: Json) -> None:
    assert refused_by({"metadata": {}, "spec": odd}, Level.BASELINE)

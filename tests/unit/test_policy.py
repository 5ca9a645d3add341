"""What a worker refuses, in which words, and which setting turns a no into a yes."""

import re
from typing import Any

import pytest

from dispatcher.errors import SettingsError
from dispatcher.spec import JobSpec
from worker.rules.manifest import manifest
from worker.rules.own_credentials import OwnCredentials
from worker.rules.pod_security import CONTROLS, Level
from worker.rules.policy import Policy, policy_of, refusal, violations
from worker.settings import WorkerSettings

JOBS = frozenset({"jobs"})


def policy(**settings: Any) -> Policy:
    return policy_of(WorkerSettings.from_environment({}, **settings), JOBS)


def judged(rules: Policy | None = None, /, **fields: Any) -> str:
    """What the caller is told; '' where the pod may be created."""
    rules = rules or policy()
    spec = JobSpec(id="j", image="x", **fields)
    pod = manifest(spec, attempt=1, namespace="jobs", installation="prod", return_value_image="busybox")
    found = violations(pod, rules)
    return refusal(found, rules) if found else ""


def test_an_ordinary_pod_may_be_created() -> None:
    assert not judged(return_value=True, volumes=({"name": "v", "emptyDir": {}},), ports=({"containerPort": 80},))


def test_another_namespace_is_refused_and_those_served_are_named() -> None:
    assert judged(namespace="kube-system") == (
        "the worker's policy does not allow this pod: metadata.namespace: 'kube-system' is not served by this worker "
        "(served: jobs); use one of these"
    )


def test_a_refusal_names_place_value_control_and_the_setting() -> None:
    assert judged(host_network=True, container_security_context={"capabilities": {"add": ["CHOWN", "SYS_PTRACE"]}}) == (
        "the worker's policy does not allow this pod: spec.containers[0].securityContext.capabilities.add[1] is "
        "SYS_PTRACE (capabilities_baseline allows AUDIT_WRITE, CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, MKNOD, "
        "NET_BIND_SERVICE, SETFCAP, SETGID, SETPCAP, SETUID, SYS_CHROOT); spec.hostNetwork is true (hostNamespaces "
        "allows not set, false). Its level of Kubernetes' Pod Security Standards is baseline: change the pod, or have "
        "those who run the worker allow it: "
        "PODRELAY_POD_SECURITY_EXEMPT=capabilities_baseline:SYS_PTRACE,hostNamespaces:hostNetwork"
    )


def probe(host: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "base", "livenessProbe": {"tcpSocket": {"host": host, "port": 1}}}]}}


#: A pod for each control, and the exemption that its refusal offers.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"host_network": True}, "hostNamespaces:hostNetwork"),
    ({"pod_template": {"spec": {"hostPID": True}}}, "hostNamespaces:hostPID"),
    ({"volumes": ({"name": "v", "hostPath": {"path": "/data"}},)}, "hostPathVolumes:/data"),
    ({"volumes": ({"name": "v", "hostPath": {"path": "/a, b"}},)}, "hostPathVolumes"),
    ({"volumes": ({"name": "v", "hostPath": {}},)}, "hostPathVolumes:path"),
    ({"ports": ({"containerPort": 80, "hostPort": 8080},)}, "hostPorts:8080"),
    ({"container_security_context": {"privileged": True}}, "privileged"),
    (
        {"init_containers": ({"name": "i", "image": "x", "securityContext": {"privileged": True}},)},
        "privileged",
    ),
    ({"container_security_context": {"procMount": "Unmasked"}}, "procMount:Unmasked"),
    ({"security_context": {"windowsOptions": {"hostProcess": True}}}, "windowsHostProcess:hostProcess"),
    ({"security_context": {"seccompProfile": {"type": "Unconfined"}}}, "seccompProfile_baseline:Unconfined"),
    ({"security_context": {"seLinuxOptions": {"type": "spc_t"}}}, "seLinuxOptions:spc_t"),
    ({"security_context": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, "sysctls:kernel.msgmax"),
    ({"security_context": {"appArmorProfile": {"type": "Unconfined"}}}, "appArmorProfile:Unconfined"),
    (
        {"annotations": {"container.apparmor.security.beta.kubernetes.io/base": "unconfined"}},
        "appArmorProfile:unconfined",
    ),
    ({"pod_template": probe("127.0.0.1")}, "hostProbesAndHostLifecycle:127.0.0.1"),
]


@pytest.mark.parametrize(("fields", "exemption"), REFUSED)
def test_the_exemption_that_a_refusal_offers_lets_this_pod_pass_and_no_other(
    fields: dict[str, Any], exemption: str
) -> None:
    told = judged(**fields)
    assert told.endswith(f"PODRELAY_POD_SECURITY_EXEMPT={exemption}")
    given = WorkerSettings.from_environment({}, pod_security_exempt=exemption)  # as it stands in the message
    assert not judged(policy_of(given, JOBS), **fields)
    others = [other for other, name in REFUSED if name.partition(":")[0] != exemption.partition(":")[0]]
    assert all(judged(policy_of(given, JOBS), **other) for other in others)


def test_a_control_s_name_lets_all_pass_that_it_refuses() -> None:
    allowing = policy(pod_security_exempt="hostNamespaces, hostPathVolumes")
    for fields, exemption in REFUSED:
        assert bool(judged(allowing, **fields)) == (not exemption.startswith(("hostNamespaces", "hostPath")))


def test_one_exempt_value_is_that_value_only() -> None:
    allowing = policy(pod_security_exempt="hostPathVolumes:/data,hostNamespaces:hostNetwork")
    assert not judged(allowing, host_network=True, volumes=({"name": "v", "hostPath": {"path": "/data"}},))
    for path in ("/data/", "/data/x", "/", "/data/../etc"):
        assert judged(allowing, volumes=({"name": "v", "hostPath": {"path": path}},))
    assert judged(allowing, pod_template={"spec": {"hostPID": True}})


def test_levels_are_kubernetes_own() -> None:
    for fields, _ in REFUSED:
        assert not judged(policy(pod_security="privileged"), **fields)
        assert judged(policy(pod_security="restricted"), **fields)
    told = judged(policy(pod_security="restricted"))
    assert "spec.containers[0].securityContext.runAsNonRoot is not set (runAsNonRoot allows true)" in told
    assert "is restricted: change the pod" in told


def test_no_level_opens_other_namespaces() -> None:
    told = judged(policy(pod_security="privileged"), namespace="kube-system")
    assert "not served" in told
    assert "PODRELAY_POD_SECURITY" not in told


def test_an_exemption_that_is_no_control_stops_the_worker_with_the_nearest_name() -> None:
    with pytest.raises(SettingsError, match=r"no such control: 'hostNamespace' \(did you mean 'hostNamespaces'\?\)"):
        policy(pod_security_exempt="hostNamespace:hostPID")
    with pytest.raises(SettingsError, match=r"'hostNetwork' \(did you mean 'hostNamespaces:hostNetwork'\?\)"):
        policy(pod_security_exempt="hostNetwork")
    with pytest.raises(SettingsError, match=r"'hostPath' \(did you mean 'hostPathVolumes'\?\)"):
        policy(pod_security_exempt="hostPath")
    with pytest.raises(SettingsError, match=r"'hostPort' \(did you mean 'hostPorts'\?\)"):
        policy(pod_security_exempt="hostPort")
    with pytest.raises(SettingsError, match="known are appArmorProfile, "):
        policy(pod_security_exempt="everything")


def test_many_violations_make_no_endless_message() -> None:
    told = judged(ports=tuple({"containerPort": n, "hostPort": n} for n in range(1, 101)))
    assert "and 90 more" in told
    assert told.endswith("PODRELAY_POD_SECURITY_EXEMPT=hostPorts")
    assert len(told) < 2000


def test_what_a_value_holds_makes_no_mess_of_the_message() -> None:
    told = judged(security_context={"seLinuxOptions": {"type": "x;\n\x1b[31m" + "y" * 500}})
    assert re.search(r"type is 'x;\\n\\x1b\[31my+ \(", told)
    assert len(told) < 500


def test_every_control_can_be_exempt() -> None:
    assert policy(pod_security_exempt=",".join(control.name for control in CONTROLS)).level is Level.BASELINE


# The worker's own

OWN = OwnCredentials("podrelay", "podrelay-worker", frozenset({"podrelay-redis"}), frozenset({"registry"}))
BESIDE = Policy(frozenset({"podrelay", "jobs"}), Level.PRIVILEGED, own=OWN)
REDIS = "podrelay-redis"
#: Every place where a pod can name a secret, as a patch of its spec.
WITH_SECRET: list[tuple[str, dict[str, Any]]] = [
    *(
        (f"spec.{kind}[0].{place}", {kind: [{"name": "base", **fields}]})
        for kind in ("containers", "initContainers", "ephemeralContainers")
        for place, fields in (
            (
                "env[0].valueFrom.secretKeyRef.name",
                {"env": [{"name": "U", "valueFrom": {"secretKeyRef": {"name": REDIS}}}]},
            ),
            (
                "envFrom[0].secretRef.name",
                {"envFrom": [{"prefix": "x", "secretRef": {"name": REDIS, "optional": True}}]},
            ),
        )
    ),
    ("spec.imagePullSecrets[0].name", {"imagePullSecrets": [{"name": REDIS}]}),
    *(
        (f"spec.volumes[0].{place}", {"volumes": [{"name": "v", **volume}]})
        for place, volume in (
            ("secret.secretName", {"secret": {"secretName": REDIS, "items": [{"key": "url", "path": "u"}]}}),
            ("projected.sources[1].secret.name", {"projected": {"sources": [{}, {"secret": {"name": REDIS}}]}}),
            ("csi.nodePublishSecretRef.name", {"csi": {"driver": "d", "nodePublishSecretRef": {"name": REDIS}}}),
            ("azureFile.secretName", {"azureFile": {"secretName": REDIS, "shareName": "s"}}),
            *(
                (f"{kind}.secretRef.name", {kind: {"secretRef": {"name": REDIS}}})
                for kind in ("cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")
            ),
        )
    ),
]


def of_spec(namespace: str = "podrelay", /, **spec: Any) -> list[str]:
    pod = {"metadata": {"name": "p", "namespace": namespace}, "spec": {"containers": [{"name": "base"}], **spec}}
    return [violation.text for violation in violations(pod, BESIDE)]


@pytest.mark.parametrize(("path", "spec"), WITH_SECRET, ids=[path for path, _ in WITH_SECRET])
def test_no_job_beside_the_worker_names_its_secret_wherever_a_pod_can_name_one(path: str, spec: dict[str, Any]) -> None:
    (told,) = of_spec(**spec)
    assert told.startswith(f"{path}: 'podrelay-redis' is the worker's own secret, ")
    assert not of_spec("jobs", **spec), "a secret of this name in another namespace is another one"


def test_other_secrets_are_a_job_s_own_affair() -> None:
    assert not of_spec(
        containers=[{"name": "base", "envFrom": [{"secretRef": {"name": "theirs"}}]}],
        volumes=[{"name": REDIS, "configMap": {"name": REDIS}}],
        serviceAccountName="theirs",
    )


def test_what_the_worker_s_image_is_pulled_with_jobs_may_pull_with_and_not_read() -> None:
    assert not of_spec(imagePullSecrets=[{"name": "registry"}])
    (told,) = of_spec(volumes=[{"name": "v", "secret": {"secretName": "registry"}}])
    assert "'registry' is the worker's own secret" in told


@pytest.mark.parametrize("field", ["serviceAccountName", "serviceAccount"])
def test_no_job_beside_the_worker_has_its_service_account(field: str) -> None:
    (told,) = of_spec(**{field: "podrelay-worker"})
    assert told.startswith(f"spec.{field}: 'podrelay-worker' is the worker's own service account, ")
    assert not of_spec("jobs", **{field: "podrelay-worker"})
    assert of_spec(serviceAccountName="theirs", serviceAccount="podrelay-worker"), "whichever of the two counts"


def test_a_worker_that_is_the_default_account_runs_no_job_that_names_none() -> None:
    own = Policy(frozenset({"podrelay"}), own=OwnCredentials("podrelay", "default"))
    pod: dict[str, Any] = {"metadata": {"namespace": "podrelay"}, "spec": {"containers": []}}
    (found,) = violations(pod, own)
    assert found.text.startswith("spec.serviceAccountName: 'default' is the worker's own service account")
    assert not found.exemption
    pod["spec"]["serviceAccountName"] = "theirs"
    assert not violations(pod, own)


def test_the_worker_s_secrets_are_those_of_its_own_pod() -> None:
    own = OwnCredentials("podrelay", "podrelay-worker").with_pod(
        {
            "containers": [{"env": [{"name": "U", "valueFrom": {"secretKeyRef": {"name": "a", "key": "k"}}}]}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "b"}}, {"configMapRef": {"name": "no"}}]}],
            "volumes": [{"secret": {"secretName": "c"}}, {"projected": {"sources": [{"secret": {"name": "d"}}]}}],
            "imagePullSecrets": [{"name": "e"}, {"name": "a"}],
        }
    )
    assert (own.secrets, own.pull_secrets) == (frozenset("abcd"), frozenset("e"))

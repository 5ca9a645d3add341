import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import names
from dispatcher.errors import InvalidSpecError
from dispatcher.spec import EnvVar, JobSpec, decode_spec
from worker.rules.manifest import manifest, namespace_of, strategic_merge

GOLDEN = Path(__file__).parent / "golden"

SPECS = {
    "manifest-minimal": JobSpec(id="6f1d2c", image="python:3.12", args=("print('hello')",), command=("python", "-c")),
    "manifest-full": JobSpec(
        id="6f1d2c",
        key="airflow/prod/dag/run/task/-1",
        queue="gpu",
        name="Train the Model!",
        image="registry.example.com/train:1",
        image_pull_policy="Always",
        command=("train",),
        args=("--epochs", "3"),
        working_dir="/work",
        env={"A": "spec", "TOKEN": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}},  # type: ignore[arg-type]
        env_from=({"configMapRef": {"name": "settings"}},),
        ports=({"containerPort": 8080},),
        resources={"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}},
        volume_mounts=({"name": "data", "mountPath": "/data", "readOnly": True},),
        container_security_context={"runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}},
        termination_message_policy="FallbackToLogsOnError",
        namespace="jobs",
        labels={"team": "ml"},
        volatile_labels={"try_number": "2"},
        annotations={"note": "hi"},
        service_account_name="trainer",
        automount_service_account_token=False,
        node_selector={"pool": "gpu"},
        tolerations=({"key": "gpu", "operator": "Exists"},),
        affinity={"nodeAffinity": {}},
        volumes=({"name": "data", "persistentVolumeClaim": {"claimName": "data"}},),
        init_containers=({"name": "fetch", "image": "busybox"},),
        containers=({"name": "proxy", "image": "envoy:2"},),
        image_pull_secrets=("registry",),
        security_context={"fsGroup": 1000},
        priority_class_name="high",
        runtime_class_name="nvidia",
        scheduler_name="volcano",
        host_network=False,
        host_aliases=({"ip": "10.0.0.1", "hostnames": ["db"]},),
        hostname="train",
        subdomain="jobs",
        dns_policy="ClusterFirst",
        dns_config={"options": [{"name": "ndots", "value": "1"}]},
        termination_grace_period_s=5,
        active_deadline_s=3600,
        return_value=True,
        pod_template={
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "ignored", "uid": "ignored", "labels": {"team": "template", "cost": "42"}},
            "spec": {
                "containers": [
                    {"name": "proxy", "image": "envoy:1", "args": ["-c", "x"]},
                    {
                        "name": "base",
                        "image": "template:1",
                        "env": [{"name": "A", "value": "template"}, {"name": "B", "value": "template"}],
                        "volumeMounts": [{"name": "old", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],
                        "resources": {"requests": {"memory": "1Gi", "cpu": "100m"}},
                    },
                ],
                "tolerations": [{"key": "replaced"}],
                "nodeSelector": {"zone": "a"},
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
            },
        },
    ),
}


def build(spec: JobSpec, **fields: Any) -> dict[str, Any]:
    given_ = {
        "attempt": 1,
        "namespace": "default",
        "installation": "prod",
        "return_value_image": "busybox:1.36",
        **fields,
    }
    return manifest(spec, **given_)


def spec_of(**fields: Any) -> JobSpec:
    return JobSpec(**{"id": "j", "image": "python:3", **fields})


def with_template(pod_spec: dict[str, Any], metadata: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return build(spec_of(pod_template={"metadata": metadata or {}, "spec": pod_spec}, **fields))


def base_of(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in pod["spec"]["containers"] if c["name"] == "base")
    return found


@pytest.mark.parametrize("name", SPECS)
def test_the_manifest_is_as_before(name: str) -> None:
    assert build(SPECS[name]) == json.loads((GOLDEN / f"{name}.json").read_text())


def test_every_field_of_the_spec_about_the_pod_is_in_the_golden_manifest() -> None:
    """A new field of the spec must be built, or be named here as one that is not about the pod."""
    elsewhere = {
        *("id", "key", "queue", "priority", "base_container", "get_logs", "container_logs", "init_container_logs"),
        *("log_limit_bytes", "log_drain_timeout_s", "queue_timeout_s", "startup_timeout_s", "schedule_timeout_s"),
        *("image_pull_grace_s", "run_timeout_s", "on_finish", "end_when", "fail_on", "launch_retries", "retry_on"),
        *("retention_s", "acknowledged_retention_s", "trace", "try_number", "submitted_by", "min_worker_version"),
    }
    assert set(JobSpec.model_fields) - elsewhere == SPECS["manifest-full"].model_fields_set - elsewhere


def test_the_pod_is_named_for_job_and_attempt_and_labelled_as_ours() -> None:
    pod = build(spec_of(key="k"), attempt=3)
    assert pod["metadata"]["name"] == names.pod_name(name="job", installation="prod", job_id="j", attempt=3)
    assert pod["metadata"]["labels"] == {
        names.LABEL_INSTALLATION: "prod",
        names.LABEL_QUEUE: "default",
        names.LABEL_JOB: "j",
        names.LABEL_ATTEMPT: "3",
    }
    assert pod["metadata"]["annotations"][names.ANNOTATION_KEY] == names.key_hash("k")


def test_the_spec_can_be_read_back_from_the_pod() -> None:
    spec = SPECS["manifest-full"]
    annotations = build(spec)["metadata"]["annotations"]
    assert decode_spec(annotations[names.ANNOTATION_SPEC]) == spec
    assert annotations[names.ANNOTATION_DIGEST] == spec.digest


def test_a_spec_too_long_for_an_annotation_is_left_out() -> None:
    annotations = build(spec_of(args=("x" * 300_000,)))["metadata"]["annotations"]
    assert names.ANNOTATION_SPEC not in annotations
    assert names.ANNOTATION_DIGEST in annotations


def test_a_pod_never_restarts() -> None:
    assert with_template({"restartPolicy": "Never"})["spec"]["restartPolicy"] == "Never"
    assert build(spec_of())["spec"]["restartPolicy"] == "Never"


def test_the_namespace_is_the_specs_then_the_templates_then_the_workers() -> None:
    template = {"metadata": {"namespace": "template"}}
    assert namespace_of(spec_of(namespace="spec", pod_template=template), "worker") == "spec"
    assert namespace_of(spec_of(pod_template=template), "worker") == "template"
    assert namespace_of(spec_of(), "worker") == "worker"


def test_a_base_container_that_the_template_lacks_goes_first() -> None:
    pod = with_template({"containers": [{"name": "side", "image": "x"}]})
    assert [c["name"] for c in pod["spec"]["containers"]] == ["base", "side"]


def test_a_variable_of_the_spec_replaces_the_templates_whole() -> None:
    template = {"containers": [{"name": "base", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}]}
    assert base_of(with_template(template, env={"A": "1"}))["env"] == [{"name": "A", "value": "1"}]


def test_a_volume_of_the_spec_replaces_the_templates_source() -> None:
    pod = with_template(
        {"volumes": [{"name": "v", "emptyDir": {}}]}, volumes=({"name": "v", "hostPath": {"path": "/"}},)
    )
    assert pod["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/"}}]


def test_an_empty_command_is_not_the_same_as_none() -> None:
    assert base_of(build(spec_of(command=())))["command"] == []
    assert "command" not in base_of(build(spec_of()))


def test_nothing_that_was_not_asked_for_is_written() -> None:
    assert build(spec_of())["spec"] == {"containers": [{"name": "base", "image": "python:3"}], "restartPolicy": "Never"}


def test_building_changes_neither_spec_nor_template() -> None:
    spec = SPECS["manifest-full"]
    before = spec.encode()
    build(spec)
    assert spec.encode() == before


@pytest.mark.parametrize(
    ("metadata", "pod_spec", "fields", "problem"),
    [
        ({"labels": {"podrelay.dev/done": "true"}}, {}, {}, "labels.podrelay.dev/done"),
        ({}, {}, {"labels": {"podrelay.dev/job": "other"}}, "labels.podrelay.dev/job"),
        ({}, {}, {"volatile_labels": {"podrelay.dev/queue": "other"}}, "labels.podrelay.dev/queue"),
        ({}, {}, {"annotations": {"podrelay.dev/key": "x"}}, "annotations.podrelay.dev/key"),
        ({}, {"containers": [{"name": "base", "restartPolicy": "Always"}]}, {}, "containers.base.restartPolicy"),
        ({}, {"containers": [{"name": "base", "restartPolicyRules": [{}]}]}, {}, "containers.base.restartPolicy"),
        ({}, {"initContainers": [{"name": "podrelay-return-value"}]}, {}, "initContainers.podrelay-return-value"),
        ({}, {"initContainers": [{"name": "i", "restartPolicy": "OnFailure"}]}, {}, "initContainers.i.restartPolicy"),
        (
            {},
            {"initContainers": [{"name": "i", "restartPolicy": "Always", "restartPolicyRules": [{"action": "X"}]}]},
            {},
            "initContainers.i.restartPolicyRules: X: a job is one run",
        ),
        ({}, {"ephemeralContainers": [{"name": "e", "restartPolicyRules": [{}]}]}, {}, "ephemeralContainers.e.restart"),
        (
            {},
            {},
            {"init_containers": ({"name": "i", "restartPolicyRules": [{}]},)},
            "initContainers.i.restartPolicyRules",
        ),
        ({}, {}, {"containers": ({"name": "c", "restartPolicy": "Always"},)}, "containers.c.restartPolicy: 'Always'"),
        (
            {"finalizers": ["example.com/hold"]},
            {},
            {},
            "pod_template.metadata.finalizers: remove it: a pod that cannot",
        ),
        ({"ownerReferences": [{"uid": "x"}]}, {}, {}, "pod_template.metadata.ownerReferences: remove it: the garbage"),
    ],
)
def test_what_is_podrelays_own_cannot_be_set(
    metadata: dict[str, Any], pod_spec: dict[str, Any], fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidSpecError, match=problem):
        with_template(pod_spec, metadata, **fields)


def sidecar_of(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["initContainers"][-1]
    assert found["name"] == names.RETURN_VALUE_CONTAINER
    return found


def test_the_return_value_sidecar_shares_the_base_containers_directory() -> None:
    pod = build(spec_of(return_value=True, init_containers=({"name": "first", "image": "x"},)))
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["first", names.RETURN_VALUE_CONTAINER]
    sidecar = sidecar_of(pod)
    assert (sidecar["restartPolicy"], sidecar["image"]) == ("Always", "busybox:1.36")
    (mount,) = base_of(pod)["volumeMounts"]
    assert mount["mountPath"] == "/airflow/xcom"
    assert sidecar["volumeMounts"][0]["name"] == mount["name"] == pod["spec"]["volumes"][0]["name"]
    assert "resources" not in base_of(pod)


def test_the_jobs_own_mount_at_the_directory_gives_way() -> None:
    own = ({"name": "mine", "mountPath": "/airflow/xcom/"},)
    (mount,) = base_of(build(spec_of(return_value=True, volume_mounts=own)))["volumeMounts"]
    assert mount["name"] == names.RETURN_VALUE_CONTAINER


def test_the_sidecar_is_limited_where_the_base_container_is() -> None:
    """A quota on limits asks one of every container."""
    free = sidecar_of(build(spec_of(return_value=True)))
    assert "limits" not in free["resources"]
    limited = sidecar_of(build(spec_of(return_value=True, resources={"limits": {"memory": "1Gi"}})))
    assert limited["resources"]["limits"] == {"memory": "64Mi"}


@pytest.mark.parametrize(
    ("pod_context", "base_context", "user"),
    [
        (None, None, None),
        ({"runAsNonRoot": True}, None, 65534),
        (None, {"runAsNonRoot": True}, 65534),
        ({"runAsNonRoot": True, "runAsUser": 7}, None, None),  # inherited
        (None, {"runAsNonRoot": True, "runAsUser": 8}, 8),
        ({"runAsNonRoot": True}, {"runAsNonRoot": False}, None),
    ],
)
def test_the_sidecar_runs_as_the_base_container_may(
    pod_context: dict[str, Any] | None, base_context: dict[str, Any] | None, user: int | None
) -> None:
    spec = spec_of(return_value=True, security_context=pod_context, container_security_context=base_context)
    assert sidecar_of(build(spec))["securityContext"].get("runAsUser") == user


maps = st.recursive(
    st.integers(),
    lambda inner: st.dictionaries(st.sampled_from(["labels", "a", "b"]), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))


@given(below=maps, above=maps)
def test_what_is_above_stays_whole_and_merging_it_again_changes_nothing(below: Any, above: Any) -> None:
    once = strategic_merge(below, above)
    assert strategic_merge(once, above) == once
    assert strategic_merge({}, above) == above
    assert strategic_merge(below, {}) == below


if __name__ == "__main__":
    for name, spec in SPECS.items():
        (GOLDEN / f"{name}.json").write_text(json.dumps(build(spec), indent=2) + "\n")
        sys.stdout.write(f"{name}\n")


def test_the_trace_context_reaches_user_code_and_the_spec_s_own_variable_wins() -> None:
    spec = JobSpec(
        image="x", trace={"traceparent": "00-a", "tracestate": "b"}, env=(EnvVar(name="TRACESTATE", value="c"),)
    )
    pod = manifest(spec, attempt=1, namespace="n", installation="i", return_value_image="busybox")
    env = {variable["name"]: variable["value"] for variable in pod["spec"]["containers"][0]["env"]}
    assert env == {"TRACEPARENT": "00-a", "TRACESTATE": "c"}

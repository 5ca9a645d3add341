"""What is deployed: images named in one place, no more rights than the README says, a compose file that adds up."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from dispatcher.settings import READ_ELSEWHERE
from dispatcher.version import VERSION
from tests.docs.pages import ROOT, blocks, page, section
from tests.support.manifests import Rendered, render
from worker.rules.pod_security import Level, findings
from worker.settings import WorkerSettings


def images() -> dict[str, str]:
    lines = [line for line in page(".env").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(page("docker-compose.yml"))
    return loaded


def test_the_images_are_settings_that_every_process_knows() -> None:
    assert images().keys() <= READ_ELSEWHERE
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+", image) for image in images().values()), "each names its version"


def test_the_compose_file_names_images_by_variable_only() -> None:
    named = [service["image"] for service in compose()["services"].values()]
    variables = [re.fullmatch(r"\$\{(\w+):\?named in \.env\}", image) for image in named]
    assert all(variables), named
    assert {match[1] for match in variables if match} <= images().keys()


def test_the_dockerfile_names_its_base_by_variable_only() -> None:
    text = page("deploy/Dockerfile")
    assert re.findall(r"^FROM (\S+)", text, re.M) == ["${PODRELAY_PYTHON_IMAGE}"] * 2
    # A bare `docker build` must work too; its default is the one of .env.
    assert f"\nARG PODRELAY_PYTHON_IMAGE={images()['PODRELAY_PYTHON_IMAGE']}\n" in text
    assert next(iter(compose()["services"]["worker"]["build"]["args"])) == "PODRELAY_PYTHON_IMAGE"


def test_an_image_can_be_built_behind_a_mirror_and_its_ca_and_names_none() -> None:
    stages = page("deploy/Dockerfile").split("\nFROM ")
    asked = ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "BUILD_CA"]
    assert [name for name in re.findall(r"^ARG (\w+)$", stages[1], re.M)] == asked, "without a value"
    arguments = compose()["services"]["worker"]["build"]["args"]
    assert {name: arguments[name] for name in asked} == dict.fromkeys(asked), "taken from the environment"
    assert stages[1].index("ARG BUILD_CA") < stages[1].index("pip install"), "before the first download"
    assert not any(name in stages[2] for name in asked), "the image has nothing of it"


def test_images_bear_the_version_of_the_code_as_tag_and_label() -> None:
    assert images()["PODRELAY_IMAGE"] == f"podrelay:{VERSION}"
    text = page("deploy/Dockerfile")
    assert f"\nARG VERSION={VERSION}\n" in text
    assert "org.opencontainers.image.version=${VERSION} " in text


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/Dockerfile", ".dockerignore"])
def test_no_image_is_named_elsewhere(name: str) -> None:
    code = "\n".join(line for line in page(name).splitlines() if not line.lstrip().startswith(("#", "ARG ")))
    for image in images().values():
        assert image not in code


def test_the_return_value_s_image_is_the_worker_s_default() -> None:
    assert images()["PODRELAY_RETURN_VALUE_IMAGE"] == WorkerSettings.model_fields["return_value_image"].default


def test_the_image_runs_as_nobody_special_and_holds_only_what_is_pinned() -> None:
    text = page("deploy/Dockerfile")
    assert re.search(r"^USER 10001:10001$", text, re.M)
    installs = re.findall(r"pip install (.*?)(?: \\)?$", text, re.M)
    assert len(installs) == 5
    for options in installs:
        assert options.startswith("--require-hashes") or options == "--no-deps /dist/*.whl"


def test_everything_that_the_image_is_made_of_reaches_the_build() -> None:
    sent = {line.removeprefix("!") for line in page(".dockerignore").splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", page("deploy/Dockerfile"), re.M)
    for name in " ".join(copied).split():
        assert name.partition("/")[0] in sent
        assert (ROOT / name).exists(), name


def test_redis_keeps_what_it_is_given_and_listens_on_the_loopback_interface_only() -> None:
    redis = compose()["services"]["redis"]
    assert redis["command"] == ["redis-server", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
    assert all(port.startswith("127.0.0.1:") for port in redis["ports"])


def test_the_worker_calls_the_api_server_by_a_name_that_its_certificate_holds() -> None:
    services = compose()["services"]
    assert "--tls-san=k3s" in services["k3s"]["command"]
    assert "s#//127.0.0.1:#//k3s:#" in services["worker"]["entrypoint"][2]
    assert services["worker"]["depends_on"].keys() == {"redis", "k3s"}


@pytest.fixture
def deployed() -> Rendered:
    return render(ROOT / "deploy")


def test_a_worker_s_role_is_exactly_what_the_readme_says(deployed: Rendered) -> None:
    rules = {(*r["apiGroups"], *r["resources"]): set(r["verbs"]) for r in deployed.one("Role")["rules"]}
    told = " ".join(section(page("README.md"), "## In production").split())
    (told,) = re.findall(r"all that a worker may do: (.*?);", told)
    assert rules == {("", what): set(verbs.split(", ")) for what, verbs in re.findall(r"([\w/]+) \((.*?)\)", told)}
    assert {what for _, what in rules} == {"pods", "pods/log", "events"}
    assert not deployed.of_kind("ClusterRole") + deployed.of_kind("ClusterRoleBinding")


def test_every_subject_is_an_account_that_is_there(deployed: Rendered) -> None:
    accounts = [found["metadata"] for found in deployed.of_kind("ServiceAccount")]
    for binding in deployed.of_kind("RoleBinding"):
        for subject in binding["subjects"]:
            assert {"name": subject["name"], "namespace": subject["namespace"]} in accounts
        assert binding["metadata"] in [role["metadata"] for role in deployed.of_kind("Role")]


def test_jobs_run_where_the_worker_has_its_rights_and_neither_lives_nor_keeps_its_secret(deployed: Rendered) -> None:
    settings = WorkerSettings.from_environment({}, **deployed.settings)
    own = deployed.pod["metadata"]["namespace"]
    assert own not in settings.namespaces
    assert set(settings.namespaces) == {role["metadata"]["namespace"] for role in deployed.of_kind("Role")}
    assert settings.default_namespace in settings.namespaces
    assert all(found["metadata"]["namespace"] for found in deployed.objects if found["kind"] != "Namespace")
    created = page("docs/operations.md").partition("create secret")[0].rpartition("kubectl ")[2]
    assert created == f"-n {own} "


def test_namespaces_ask_of_pods_what_they_pass(deployed: Rendered) -> None:
    levels = {
        found["metadata"]["name"]: found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for found in deployed.of_kind("Namespace")
    }
    settings = WorkerSettings.from_environment({}, **deployed.settings)
    assert levels[deployed.pod["metadata"]["namespace"]] == "restricted"
    assert list(findings(deployed.pod, Level.RESTRICTED)) == []
    assert {levels[name] for name in settings.namespaces} == {settings.pod_security}, "what one allows, both do"


def test_jobs_that_name_no_account_have_no_token(deployed: Rendered) -> None:
    tokens = {
        found["metadata"]["namespace"]: found["automountServiceAccountToken"]
        for found in deployed.of_kind("ServiceAccount")
        if found["metadata"]["name"] == "default"
    }
    settings = WorkerSettings.from_environment({}, **deployed.settings)
    assert tokens == dict.fromkeys(settings.namespaces, False)


def test_the_recipe_for_a_further_namespace_gives_the_worker_the_same_rights_there(deployed: Rendered) -> None:
    (recipe,) = [block for block in blocks(page("docs/operations.md"), "sh") if "team-a" in block]
    (script,) = re.findall(r"sed '(.*)' deploy/rbac.yaml", recipe)
    made = subprocess.run(["sed", script, ROOT / "deploy/rbac.yaml"], capture_output=True, text=True, check=True).stdout
    role, binding = yaml.safe_load_all(made)
    assert (role["kind"], role["metadata"]["namespace"]) == ("Role", "team-a")
    assert role["rules"] == deployed.one("Role")["rules"]
    assert (binding["kind"], binding["metadata"]["namespace"]) == ("RoleBinding", "team-a")
    assert binding["subjects"] == deployed.one("RoleBinding")["subjects"]


def test_the_deployment_sets_only_variables_that_a_worker_reads(deployed: Rendered) -> None:
    spec = deployed.pod["spec"]
    (container,) = spec["containers"]
    known = {f"PODRELAY_{name.upper()}" for name in WorkerSettings.model_fields}
    assert {variable["name"] for variable in container["env"]} <= known
    assert spec["enableServiceLinks"] is False
    assert "livenessProbe" not in container, "a worker without Redis still follows its pods"
    assert "startupProbe" not in container, "one that waits for Redis to start must not be killed"
    assert container["readinessProbe"]["periodSeconds"] <= 10


def test_every_manifest_is_deployed_and_the_image_is_named_once(deployed: Rendered) -> None:
    kustomization = yaml.safe_load(page("deploy/kustomization.yaml"))
    files = {path.name for path in (ROOT / "deploy").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    (container,) = deployed.pod["spec"]["containers"]
    assert container["image"] == images()["PODRELAY_IMAGE"]

"""What is deployed: images named in one place, no more rights than the README says, a compose file that adds up."""

import re
from typing import Any

import pytest
import yaml

from dispatcher.settings import READ_ELSEWHERE
from dispatcher.version import VERSION
from tests.docs.pages import ROOT, page, section
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
    assert list(compose()["services"]["worker"]["build"]["args"]) == ["PODRELAY_PYTHON_IMAGE"]


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


def test_a_worker_s_role_is_exactly_what_the_readme_says() -> None:
    documents = list(yaml.safe_load_all(page("deploy/rbac.yaml")))
    assert [document["kind"] for document in documents] == ["ServiceAccount", "Role", "RoleBinding"]
    rules = {(*r["apiGroups"], *r["resources"]): set(r["verbs"]) for r in documents[1]["rules"]}
    told = " ".join(section(page("README.md"), "## In production").split())
    (told,) = re.findall(r"all that a worker may do: (.*?);", told)
    assert rules == {("", what): set(verbs.split(", ")) for what, verbs in re.findall(r"([\w/]+) \((.*?)\)", told)}
    assert {what for _, what in rules} == {"pods", "pods/log", "events"}


def test_the_deployment_sets_only_variables_that_a_worker_reads() -> None:
    deployment = yaml.safe_load(page("deploy/deployment.yaml"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    known = {f"PODRELAY_{name.upper()}" for name in WorkerSettings.model_fields}
    assert {variable["name"] for variable in container["env"]} <= known
    assert "livenessProbe" not in container, "a worker without Redis still follows its pods"


def test_every_manifest_is_deployed_and_the_image_is_named_once() -> None:
    kustomization = yaml.safe_load(page("deploy/kustomization.yaml"))
    files = {path.name for path in (ROOT / "deploy").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    (image,) = kustomization["images"]
    assert f"{image['newName']}:{image['newTag']}" == images()["PODRELAY_IMAGE"]

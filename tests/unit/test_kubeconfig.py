"""A kubeconfig is read as kubectl reads it; what cannot be used is told in one line that names the file."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.cluster.kubeconfig import ConfigurationError, load
from worker.cluster.proxy import environment_proxy

SERVER = {"server": "https://example.com"}


def content(cluster: Any = None, user: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster if cluster is not None else SERVER}],
        "users": [{"name": "u", "user": user if user is not None else {}}],
        **more,
    }


def read(path: Path, body: Any) -> Any:
    path.write_text(body if isinstance(body, str) else yaml.safe_dump(body))
    return load({"KUBECONFIG": str(path)})


EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "c"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "has no current-context (contexts: none)"),
        ("null", "has no current-context"),
        ("{", "is no YAML (line 1)"),
        ("\tx: 1", "is no YAML"),
        ("[]", "Input should be a valid dictionary"),
        ("5", "Input should be a valid dictionary"),
        ("just text", "Input should be a valid dictionary"),
        ("[" * 5000, "is no YAML"),
        (content(**{"current-context": None}), "has no current-context (contexts: here)"),
        (content(**{"current-context": "there"}), "has no context 'there' (contexts: here)"),
        (content(contexts=[]), "has no context 'here' (contexts: none)"),
        (content(contexts={"name": "here"}), "contexts: Input should be"),
        (content(contexts=[{"name": "here"}]), "context 'here': cluster: Field required"),
        (content(contexts=[{"name": "here", "context": [1]}]), "context 'here': Input should be a valid dictionary"),
        (content(clusters=[]), "has no cluster 'c' (clusters: none)"),
        (content(users=[]), "has no user 'u'"),
        (content(clusters=[{"name": "c", "cluster": SERVER}] * 2), "has two clusters named 'c'"),
        (content(clusters=[{"cluster": SERVER}]), "clusters.0.name: Field required"),
        (content({}), "cluster 'c': server: Field required"),
        (content({"server": "ftp://x"}), "is no http or https URL"),
        (content({"server": "https://"}), "is no http or https URL"),
        (content({"server": "https://x:port"}), "is no URL"),
        (content({**SERVER, "insecure-skip-tls-verify": "perhaps"}), "insecure-skip-tls-verify: Input should be"),
        (content({**SERVER, "proxy-url": "socks5://x:1"}), "'socks5': only http and https proxies are supported"),
        (content({**SERVER, "proxy-url": "http://user:s3cret@"}), "proxy-url is no URL"),
        (content({**SERVER, "proxy-url": "x:1"}), "only http and https proxies are supported"),
        (content({**SERVER, "certificate-authority-data": "%"}), "certificate-authority-data is no base64"),
        (
            content({**SERVER, "certificate-authority": "x", "insecure-skip-tls-verify": True}),
            "exclude each other",
        ),
        (content(user={"auth-provider": {"name": "oidc"}}), "auth-provider is not supported, use an exec plugin"),
        (content(user={"client-certificate": "x"}), "client-certificate and client-key belong together"),
        (content(user={"username": "a", "token": "b"}), "either a token or a username"),
        (content(user={"tokenFile": "a\0b"}), "is the path of no file"),
        (content(user={"client-certificate": "\ud800", "client-key": "k"}), "is the path of no file"),
        (content({**SERVER, "certificate-authority": "a\0b"}), "is the path of no file"),
        (content(user={"as-groups": ["x"]}), "need an `as`"),
        (content(user={"as": "a\nb"}), "cannot be sent in a header"),
        (content(user={"as-groups": "x", "as": "y"}), "as-groups: Input should be a valid tuple"),
        (content(user={"as-user-extra": {"x": "y"}, "as": "z"}), "as-user-extra.x: Input should be a valid tuple"),
        (content(user={"exec": "aws"}), "user 'u': exec: Input should be"),
        (content(user={"exec": {"command": "c"}}), "exec.apiVersion: Field required"),
        (content(user={"exec": {**EXEC, "apiVersion": "client.authentication.k8s.io/v1alpha1"}}), "is not supported"),
        (content(user={"exec": {**EXEC, "interactiveMode": "Always"}}), "a worker has no terminal"),
        (content(user={"exec": {**EXEC, "env": {"a": "b"}}}), "exec.env: Input should be a valid tuple"),
        (content(user=["token"]), "user 'u': Input should be a valid dictionary"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_the_file(tmp_path: Path, body: Any, says: str) -> None:
    path = tmp_path / "kubeconfig"
    with pytest.raises(ConfigurationError) as raised:
        read(path, body)
    text = str(raised.value)
    assert says in text
    assert str(path) in text
    assert "\n" not in text
    assert "s3cret" not in text


def test_what_is_no_file_to_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"kubeconfig does not exist: KUBECONFIG names the file to use"):
        load({"KUBECONFIG": str(tmp_path / "kubeconfig")})
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load({"KUBECONFIG": str(tmp_path)})
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="binary is no YAML"):
        load({"KUBECONFIG": str(tmp_path / "binary")})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("{}")
    path.chmod(stat.S_IWUSR)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        load({"KUBECONFIG": str(path)})


def test_the_entries_that_are_not_chosen_do_not_matter(tmp_path: Path) -> None:
    body = content()
    body["users"].append({"name": "other", "user": {"auth-provider": {"name": "gcp"}}})
    body["clusters"].append({"name": "other", "cluster": {"proxy-url": "socks5://x"}})
    assert read(tmp_path / "k", body).server == "https://example.com"


def test_unknown_fields_are_named_and_known_ones_without_use_here_are_not(tmp_path: Path) -> None:
    cluster = {**SERVER, "disable-compression": True, "extensions": [{"name": "x", "extension": {}}], "tls-server": "y"}
    user = {"exec": {**EXEC, "intractiveMode": "Never"}, "tokenfile": "x"}
    found = read(tmp_path / "k", content(cluster, user, preferences={}, extensions=[], kind="Config"))
    assert found.ignored == ("cluster.tls-server", "user.tokenfile", "user.exec.intractiveMode")


def test_empty_is_not_set_and_numbers_are_texts(tmp_path: Path) -> None:
    cluster = {**SERVER, "proxy-url": "", "certificate-authority-data": "", "tls-server-name": None}
    found = read(tmp_path / "k", content(cluster, {"token": 12345, "tokenFile": "", "username": None}))
    assert (found.proxy, found.authority, found.tls_server_name) == (None, None, None)
    assert (found.auth.token, found.auth.token_file) == ("12345", None)


@pytest.mark.parametrize(
    ("cluster", "server"),
    [
        ({"server": "example.com:6443"}, "http://example.com:6443"),
        ({"server": "example.com:6443", "insecure-skip-tls-verify": True}, "https://example.com:6443"),
        ({"server": "https://[::1]:6443/"}, "https://[::1]:6443"),
        ({"server": "https://example.com/k8s/clusters/c-1"}, "https://example.com/k8s/clusters/c-1"),
    ],
)
def test_the_server(tmp_path: Path, cluster: dict[str, Any], server: str) -> None:
    assert read(tmp_path / "k", content(cluster)).server == server


@pytest.mark.parametrize(
    ("server", "environment", "proxy"),
    [
        ("https://a.example.com:6443", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example.com", {"https_proxy": "p:1"}, "http://p:1"),
        ("https://a.example.com", {"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:2"}, None),
        ("http://a.example.com", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("https://localhost:6443", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://127.0.0.2", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://[::1]:6443", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://a.example.com", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://a.example.com", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x, Example.com"}, None),
        ("https://a.example.com", {"HTTPS_PROXY": "http://p:1", "no_proxy": ".example.com"}, None),
        ("https://example.com", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example.com"}, "http://p:1"),
        ("https://badexample.com", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.com"}, "http://p:1"),
        ("https://10.96.0.1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://11.96.0.1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://p:1"),
        ("https://10.96.0.1:6443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.96.0.1:6443"}, None),
        ("https://10.96.0.1:443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.96.0.1:6443"}, "http://p:1"),
        ("https://[fd00::1]:6443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "[fd00::1]:6443"}, None),
        ("https://[fd00::1]:6443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "fd00::1"}, None),
    ],
)
def test_the_environments_proxy_by_kubectls_rules(server: str, environment: dict[str, str], proxy: str | None) -> None:
    assert environment_proxy(server, environment) == proxy


def test_an_environments_proxy_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_text(yaml.safe_dump(content()))
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY has the scheme 'socks5'"):
        load({"KUBECONFIG": str(path), "HTTPS_PROXY": "socks5://p:1"})


def test_a_pods_own_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.cluster.kubeconfig.SERVICE_ACCOUNT", tmp_path)
    (tmp_path / "namespace").write_text("team\n")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    found = load(environment)
    assert (found.server, found.namespace) == ("https://[fd00::1]:443", "team")
    assert found.auth.token_file == tmp_path / "token"
    with pytest.raises(ConfigurationError, match="KUBERNETES_SERVICE_HOST and _PORT are not set"):
        load({})

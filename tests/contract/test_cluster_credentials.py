"""Every credential and every field of a kubeconfig, against a proxy: kubectl's meaning, renewed while it runs."""

import asyncio
import base64
import json
import os
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from devcluster.cluster import PocketCluster
from dispatcher.version import VERSION
from tests.support.api_proxy import ApiProxy, in_time
from tests.support.certificates import Authority, Certified
from tests.support.http_proxy import HttpProxy
from worker.cluster import credentials, exec_plugin, kubeconfig
from worker.cluster.client import Cluster, ConfigurationError
from worker.cluster.responses import ClusterRefusedError, ClusterUnavailableError, CredentialsError

V1 = "client.authentication.k8s.io/v1"
PRINTED = f'{{"kind":"ExecCredential","apiVersion":"{V1}","status":'
Json = dict[str, Any]


class ClusterAccess:
    """A pocket cluster, the proxies before it, and the kubeconfig that leads to one."""

    def __init__(self, pocket: PocketCluster, directory: Path, stack: AsyncExitStack) -> None:
        self.pocket = pocket
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self.authority = Authority()
        self._stack = stack

    async def api_proxy(self, tls: ssl.SSLContext | None = None) -> ApiProxy:
        api = ApiProxy(self.pocket.url, random.Random(1), tls=tls, token=self.pocket.token)
        return await self._stack.enter_async_context(api)

    async def http_proxy(self, api: ApiProxy, tls: ssl.SSLContext | None = None) -> HttpProxy:
        return await self._stack.enter_async_context(HttpProxy(api.port, tls=tls))

    def write(self, server: str, user: Json | None = None, /, **cluster: Any) -> Path:
        content = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
            "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
            "users": [{"name": "u", "user": user or {}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(content))
        return self.kubeconfig

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def plugin(self, script: str) -> Json:
        """A user with an exec plugin that runs this shell script; each run appends to ``runs``."""
        path = self.file("plugin.sh", f'#!/bin/sh\necho run >> "$0.runs"\n{script}\n')
        path.chmod(0o700)
        return {"exec": {"apiVersion": V1, "command": str(path), "interactiveMode": "Never"}}

    @property
    def runs(self) -> int:
        runs = self.directory / "plugin.sh.runs"
        return len(runs.read_text().splitlines()) if runs.exists() else 0

    def printing(self, **status: Any) -> Json:
        body = json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": status})
        printed = self.file("printed.json", body)
        return self.plugin(f"cat {printed}")


@pytest_asyncio.fixture(name="access")
async def a_cluster_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterAccess]:
    for variable in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(credentials, "RELOAD_S", 0.05)
    async with AsyncExitStack() as stack:
        yield ClusterAccess(await stack.enter_async_context(PocketCluster()), tmp_path, stack)


@asynccontextmanager
async def connected() -> AsyncIterator[Cluster]:
    async with await Cluster.connect(connections=8) as cluster:
        yield cluster


async def answers(cluster: Cluster) -> None:
    """It proves that there is no such pod."""
    assert await cluster.read_pod("default", "none") is None


async def until_answers(cluster: Cluster, *, within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while True:
            try:
                return await answers(cluster)
            except ClusterUnavailableError:
                await asyncio.sleep(0.02)  # a caller's pause: what is awaited only happens as it asks


# Who


async def test_a_token(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    access.write(api.url, {"token": "secret"})
    async with connected() as cluster:
        await answers(cluster)
    assert api.heard[-1]["Authorization"] == "Bearer secret"
    assert api.heard[-1]["User-Agent"] == f"podrelay-worker/{VERSION}"


async def test_a_user_and_password(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    access.write(api.url, {"username": "ada", "password": "s:ecret"})
    async with connected() as cluster:
        await answers(cluster)
    assert api.heard[-1]["Authorization"] == "Basic " + base64.b64encode(b"ada:s:ecret").decode()


async def test_nobody(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    access.write(api.url)
    async with connected() as cluster:
        await answers(cluster)
    assert "Authorization" not in api.heard[-1]


async def test_a_token_in_a_file_is_stripped_read_again_and_counts_before_a_token(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    access.file("token", "one\n")
    access.write(api.url, {"tokenFile": "token", "token": "static"})
    async with connected() as cluster:
        api.accepts = lambda token: token == "one"
        await answers(cluster)
        access.file("token", "  two\n")
        api.accepts = lambda token: token == "two"
        await answers(cluster)


async def test_a_token_file_that_is_empty_or_gone_for_a_moment_is_waited_out(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    api.accepts = lambda token: token == "one"
    access.write(api.url, {"tokenFile": "token"})
    async with connected() as cluster:
        with pytest.raises(CredentialsError, match="No such file"):
            await answers(cluster)
        assert not cluster.is_available.is_set()
        access.file("token", " \n")
        with pytest.raises(CredentialsError):
            await answers(cluster)
        access.file("token", "one")
        await until_answers(cluster)
        (access.directory / "token").unlink()
        await answers(cluster)  # what it had still holds


@pytest.mark.parametrize("token", ["a b", "a\nb", "a\r\nX-Evil: 1", "ä", "\x00"])
async def test_a_token_that_no_header_can_carry_is_unavailable(access: ClusterAccess, token: str) -> None:
    api = await access.api_proxy()
    access.file("token", token)
    access.write(api.url, {"tokenFile": "token"})
    async with connected() as cluster:
        with pytest.raises(CredentialsError, match="no header can carry"):
            await answers(cluster)
    assert api.heard == []


@pytest.mark.parametrize("user", [{"username": "\ud800", "password": "p"}, {"username": "u", "password": "\ud800"}])
async def test_a_kubeconfig_of_a_kind_that_nobody_has_thought_of_is_unavailable(
    access: ClusterAccess, user: Json
) -> None:
    """No request fails of it as of a defect, which would end jobs."""
    api = await access.api_proxy()
    access.write(api.url, user)
    async with connected() as cluster:
        with pytest.raises(CredentialsError, match="cannot be used"):
            await answers(cluster)


async def test_the_kubeconfig_itself_may_be_written_again(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    access.write(api.url, {"token": "one"})
    async with connected() as cluster:
        await answers(cluster)
        access.write(api.url, {"token": "two and longer".replace(" ", "-")})
        api.accepts = lambda token: token == "two-and-longer"
        await answers(cluster)
        access.kubeconfig.write_text("{")  # it is just being written
        await answers(cluster)


async def test_a_kubeconfig_that_names_another_server_by_now_is_not_followed(
    access: ClusterAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "RELOAD_S", 0.0)  # each request looks
    api, other = await access.api_proxy(), await access.api_proxy()
    access.write(api.url, {"token": "one"})
    async with connected() as cluster:
        await answers(cluster)
        access.write(other.url, {"token": "for the other".replace(" ", "-")})
        for _ in range(3):
            await answers(cluster)
    assert other.heard == []
    assert {heard["Authorization"] for heard in api.heard} == {"Bearer one"}


async def test_impersonation(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    extra = {"example.com/scope": ["view", "edit"]}
    user = {"token": "t", "as": "jane", "as-uid": "42", "as-groups": ["dev", "ops"], "as-user-extra": extra}
    access.write(api.url, user)
    async with connected() as cluster:
        await answers(cluster)
    heard = api.heard[-1]
    assert (heard["Impersonate-User"], heard["Impersonate-Uid"]) == ("jane", "42")
    assert heard.getall("Impersonate-Group") == ["dev", "ops"]
    assert heard.getall("Impersonate-Extra-example.com%2Fscope") == ["view", "edit"]


# Plugins

EXPIRING = """
e=$(( $(date +%s) + 2 ))
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t-'$e'",
"expirationTimestamp":"'$(date -u -d @$e +%FT%TZ)'"}}'
"""


async def test_a_plugins_token_is_renewed_before_it_expires(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    api.accepts = in_time
    access.write(api.url, access.plugin(EXPIRING))
    async with connected() as cluster, asyncio.timeout(30):
        while access.runs < 4:
            await answers(cluster)
            await asyncio.sleep(0.01)  # a caller's pause: what is awaited only happens as it asks
    assert api.refused[401] == 0


async def test_a_plugin_runs_again_once_for_all_who_are_refused(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    access.write(api.url, access.printing(token="one"))
    async with connected() as cluster:
        await answers(cluster)
        access.printing(token="two")
        api.accepts = lambda token: token == "two"
        await asyncio.gather(*(answers(cluster) for _ in range(20)))
        assert cluster.is_available.is_set()
    assert access.runs == 2


async def test_what_is_refused_for_good_does_not_run_the_plugin_with_every_request(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    api.accepts = lambda token: False
    access.write(api.url, access.printing(token="one"))
    async with connected() as cluster:
        for _ in range(20):
            with pytest.raises(
                CredentialsError, match=r"credentials \(context 'here' of .*\) are not accepted: Unauthor"
            ):
                await answers(cluster)
        assert not cluster.is_available.is_set()
    assert access.runs <= 2


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'you have to log in' >&2; exit 3", "ended with code 3: you have to log in"),
        ("exit 1", "ended with code 1: without a word"),
        ("echo secret-token", "printed what is no JSON"),
        ("echo '[]'", "printed no ExecCredential"),
        ("echo '{}'; echo hm >&2", r"printed no ExecCredential .* \(it said: hm\)"),
        (f"echo '{PRINTED}{{}}}}'", "neither a token nor"),
        (f"echo '{PRINTED}[]}}'", "no ExecCredential"),
        (f"""echo '{PRINTED}{{"token":5}}}}'""", "no text"),
        (f"""echo '{PRINTED}{{"token":"t"}}}}' | sed s/v1/v1beta1/""", "no ExecCredential"),
        (f"""echo '{PRINTED}{{"token":"t","expirationTimestamp":"x"}}}}'""", "is no time"),
        (f"""echo '{PRINTED}{{"clientKeyData":"k"}}}}'""", "neither"),
        ("head -c 2000000 /dev/zero", "more than 1048576 bytes"),
        ("kill -9 $$", "ended with code -9"),
        ("sleep 600", "did not end within"),
        ("(sleep 600) & exit 0", "did not end within"),
    ],
)  # fmt: skip
async def test_a_plugin_that_fails_is_unavailable_in_its_words(
    access: ClusterAccess, script: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_plugin, "PLUGIN_S", 1.0 if "sleep" in script else 30.0)
    api = await access.api_proxy()
    access.write(api.url, access.plugin(script))
    async with connected() as cluster:
        for _ in range(3):
            with pytest.raises(CredentialsError, match=why) as raised:
                await answers(cluster)
            assert "secret-token" not in str(raised.value)
        assert not cluster.is_available.is_set()
        assert access.runs < 3
        access.printing(token="t")
        await until_answers(cluster)
    assert api.heard[-1]["Authorization"] == "Bearer t"


async def test_a_plugin_that_is_missing_is_unavailable_with_its_hint(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    plugin = {"apiVersion": V1, "command": "no-such-plugin", "installHint": "Install it\nfrom example.com."}
    access.write(api.url, {"exec": plugin})
    async with connected() as cluster:
        with pytest.raises(CredentialsError, match=r"cannot be started: No such file .*Install it from example.com\."):
            await answers(cluster)


async def test_a_plugin_is_told_what_it_wants_to_know_and_not_the_way_to_redis(
    access: ClusterAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODRELAY_REDIS_URL", "redis://:password@host")
    api = await access.api_proxy(access.authority.server_context("kubernetes"))
    user = access.plugin(f"""printf '%s' "$KUBERNETES_EXEC_INFO" > {access.directory}/info; env > {access.directory}/env
echo '{{"apiVersion":"{V1}","kind":"ExecCredential","status":{{"token":"'$1-$STAGE'"}}}}'""")
    user["exec"] |= {"args": ["blue"], "env": [{"name": "STAGE", "value": "prod"}], "provideClusterInfo": True}
    user["exec"]["command"] = "./plugin.sh"  # relative to the kubeconfig
    ca = base64.b64encode(access.authority.pem).decode()
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}
    access.write(
        api.url, user, **{"certificate-authority-data": ca, "tls-server-name": "kubernetes", "extensions": [extension]}
    )
    async with connected() as cluster:
        await answers(cluster)
    assert api.heard[-1]["Authorization"] == "Bearer blue-prod"
    info = json.loads((access.directory / "info").read_text())
    told = {"server": api.url, "tls-server-name": "kubernetes", "certificate-authority-data": ca}
    assert info["spec"] == {"interactive": False, "cluster": {**told, "config": {"audience": "x"}}}
    told_lines = (access.directory / "env").read_text().splitlines()
    assert [line for line in told_lines if line.startswith("PODRELAY") or "redis://" in line] == []


async def test_a_plugins_client_certificate(access: ClusterAccess) -> None:
    api = await access.api_proxy(access.authority.server_context(wants_client=True))
    ca = access.file("ca.crt", access.authority.pem)
    client = access.authority.client("ada")
    status = {"clientCertificateData": client.certificate.decode(), "clientKeyData": client.key.decode()}
    access.write(api.url, access.printing(**status), **{"certificate-authority": str(ca)})
    async with connected() as cluster:
        await answers(cluster)


# TLS


def files_of(access: ClusterAccess, client: Certified) -> Json:
    access.file("client.crt", client.certificate)
    access.file("client.key", client.key)
    return {"client-certificate": "client.crt", "client-key": "client.key"}


async def test_a_client_certificate_in_files_and_in_data(access: ClusterAccess) -> None:
    api = await access.api_proxy(access.authority.server_context(wants_client=True))
    access.file("ca.crt", access.authority.pem)
    access.write(api.url, files_of(access, access.authority.client("ada")), **{"certificate-authority": "ca.crt"})
    async with connected() as cluster:
        await answers(cluster)
    client = access.authority.client("bob")
    data = {
        "client-certificate-data": base64.b64encode(client.certificate).decode(),
        "client-key-data": base64.b64encode(client.key).decode(),
        "client-certificate": "not-used.crt",
    }
    access.write(api.url, data, **{"certificate-authority": "ca.crt"})
    async with connected() as cluster:
        await answers(cluster)


async def test_a_client_certificate_that_is_renewed_is_used_for_new_connections(access: ClusterAccess) -> None:
    expired = Authority("an authority of yesterday")
    api = await access.api_proxy(access.authority.server_context(wants_client=True))
    access.file("ca.crt", access.authority.pem)
    access.write(api.url, files_of(access, expired.client("ada")), **{"certificate-authority": "ca.crt"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError):
            await answers(cluster)
        files_of(access, access.authority.client("ada"))
        await until_answers(cluster)


async def test_an_authority_that_is_renewed_is_believed(access: ClusterAccess) -> None:
    api = await access.api_proxy(access.authority.server_context())
    access.file("ca.crt", Authority().pem)
    access.write(api.url, {"token": "t"}, **{"certificate-authority": "ca.crt"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await answers(cluster)
        access.file("ca.crt", access.authority.pem)
        await until_answers(cluster)


async def test_a_certificate_for_another_name(access: ClusterAccess) -> None:
    api = await access.api_proxy(access.authority.server_context("kubernetes"))
    access.file("ca.crt", access.authority.pem)
    access.write(api.url, {"token": "t"}, **{"certificate-authority": "ca.crt"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError, match="IP address mismatch"):
            await answers(cluster)
    access.write(api.url, {"token": "t"}, **{"certificate-authority": "ca.crt", "tls-server-name": "kubernetes"})
    async with connected() as cluster:
        await answers(cluster)
        with pytest.raises(ClusterRefusedError):
            async with cluster.log("default", "none", "base", since=None, follow=True):
                pass
    access.write(api.url, {"token": "t"}, **{"insecure-skip-tls-verify": True})
    async with connected() as cluster:
        await answers(cluster)
    access.write(api.url, {"token": "t"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await answers(cluster)


# The way


async def test_a_proxy(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    proxy = await access.http_proxy(api)
    url = proxy.url.replace("http://", "http://ada:s3cret@")
    access.write("http://cluster.invalid:6443", {"token": "t"}, **{"proxy-url": url})
    async with connected() as cluster:
        await answers(cluster)
    assert proxy.asked[0].startswith("GET http://cluster.invalid:6443/api/v1/namespaces/default/pods/none ")
    assert proxy.credentials == ["Basic " + base64.b64encode(b"ada:s3cret").decode()]


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_proxy_to_a_server_with_tls(access: ClusterAccess, is_tls: bool) -> None:
    api = await access.api_proxy(access.authority.server_context("kubernetes"))
    proxy = await access.http_proxy(api, access.authority.server_context() if is_tls else None)
    access.file("ca.crt", access.authority.pem)
    cluster_entry = {"certificate-authority": "ca.crt", "tls-server-name": "kubernetes", "proxy-url": proxy.url}
    access.write("https://cluster.invalid", {"token": "t"}, **cluster_entry)
    async with connected() as cluster:
        await answers(cluster)
    assert proxy.asked[0].startswith("CONNECT cluster.invalid:443 ")


async def test_a_proxy_that_is_not_there_is_not_passed_by(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    access.write(api.url, {"token": "t"}, **{"proxy-url": "http://127.0.0.1:9"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError, match=r"127\.0\.0\.1:9"):
            await answers(cluster)
    assert api.heard == []


async def test_the_environments_proxy(access: ClusterAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    api = await access.api_proxy()
    proxy = await access.http_proxy(api)
    monkeypatch.setenv("HTTP_PROXY", proxy.address)
    access.write("http://cluster.invalid", {"token": "t"})
    async with connected() as cluster:
        await answers(cluster)
    assert len(proxy.asked) == 1
    monkeypatch.setenv("NO_PROXY", ".invalid")
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError, match=r"cluster\.invalid"):
            await answers(cluster)
    assert len(proxy.asked) == 1


async def test_a_server_behind_a_path(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    access.write(f"{api.url}/k8s/clusters/c-1/", {"token": "t"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError):
            await answers(cluster)  # the pocket cluster has no such path: not a word about the pod


# In a pod


async def test_a_pods_service_account_whose_token_is_rotated(
    access: ClusterAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await access.api_proxy(access.authority.server_context())
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", access.directory)
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    for name, content in (("namespace", "team"), ("token", "one"), ("ca.crt", access.authority.pem)):
        access.file(name, content)
    api.accepts = lambda token: token == "one"
    async with connected() as cluster:
        assert cluster.default_namespace == "team"
        await answers(cluster)
        access.file("token", "two")
        api.accepts = lambda token: token == "two"
        await answers(cluster)


# Several files


async def test_several_files_are_merged_as_kubectl_does(access: ClusterAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    api = await access.api_proxy()
    (access.directory / "a").mkdir()
    (access.directory / "b").mkdir()
    access.file("a/token", "right")
    a = {
        "current-context": "one",
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
        "clusters": [],
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
    }
    b = {
        "current-context": "two",
        "users": [{"name": "u", "user": {"token": "wrong"}}],
        "clusters": [{"name": "c", "cluster": {"server": api.url}}],
        "contexts": None,
    }
    access.file("a/config", yaml.safe_dump(a))
    access.file("b/config", yaml.safe_dump(b))
    access.file("empty", "")
    files = ["missing", "empty", "a/config", "b/config"]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(str(access.directory / name) for name in files))
    async with connected() as cluster:
        assert cluster.default_namespace == "team"
        await answers(cluster)
    assert api.heard[-1]["Authorization"] == "Bearer right"


# A worker that begins without its right


async def test_credentials_that_are_refused_for_a_while_end_a_watch_and_are_taken_again(access: ClusterAccess) -> None:
    api = await access.api_proxy()
    access.write(api.url, {"token": "t"})
    async with connected() as cluster:
        _, version = await cluster.list_pods("default", "a=b")
        watch = cluster.watch_pods("default", "a=b", version)
        waiting = asyncio.ensure_future(anext(watch))
        await api.until(lambda: api.open_streams > 0)
        api.accepts = lambda token: False
        with pytest.raises(CredentialsError):
            await answers(cluster)
        assert not cluster.is_available.is_set()
        with pytest.raises(ClusterUnavailableError):
            await waiting
        api.accepts = None
        await until_answers(cluster)
        await cluster.list_pods("default", "a=b")
        assert cluster.is_available.is_set()


async def test_no_configuration_at_all_is_one_line(access: ClusterAccess) -> None:
    with pytest.raises(ConfigurationError, match=r"kubeconfig does not exist: KUBECONFIG names the file") as raised:
        await Cluster.connect(connections=1)
    assert "\n" not in str(raised.value)

"""Every credential and every field of a kubeconfig, against a door: kubectl's meaning, renewed while it runs."""

import asyncio
import base64
import json
import os
import random
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from devcluster.cluster import PocketCluster
from tests.support.api_proxy import ApiDoor, in_time
from tests.support.certificates import Authority, Certified
from tests.support.http_proxy import HttpProxy
from worker.cluster import credentials, exec_plugin, kubeconfig
from worker.cluster.answers import ClusterRefusedError, ClusterUnavailableError, CredentialsError
from worker.cluster.client import Cluster, ConfigurationError

V1 = "client.authentication.k8s.io/v1"
PRINTED = f'{{"kind":"ExecCredential","apiVersion":"{V1}","status":'
Json = dict[str, Any]


class Site:
    """A pocket cluster, the doors before it, and the kubeconfig that leads to one."""

    def __init__(self, pocket: PocketCluster, directory: Path, stack: AsyncExitStack) -> None:
        self.pocket = pocket
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self.authority = Authority()
        self._stack = stack

    async def door(self, tls: ssl.SSLContext | None = None) -> ApiDoor:
        door = ApiDoor(self.pocket.url, random.Random(1), tls=tls, token=self.pocket.token)
        return await self._stack.enter_async_context(door)

    async def proxy(self, door: ApiDoor, tls: ssl.SSLContext | None = None) -> HttpProxy:
        return await self._stack.enter_async_context(HttpProxy(door.port, tls=tls))

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


@pytest_asyncio.fixture(name="site")
async def a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    for variable in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(credentials, "LOOK_AGAIN_S", 0.05)
    async with AsyncExitStack() as stack:
        yield Site(await stack.enter_async_context(PocketCluster()), tmp_path, stack)


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
                await asyncio.sleep(0.02)


# Who


async def test_a_token(site: Site) -> None:
    door = await site.door()
    site.write(door.url, {"token": "secret"})
    async with connected() as cluster:
        await answers(cluster)
    assert door.heard[-1]["Authorization"] == "Bearer secret"
    assert door.heard[-1]["User-Agent"].startswith("podrelay-worker/")


async def test_a_user_and_password(site: Site) -> None:
    door = await site.door()
    site.write(door.url, {"username": "ada", "password": "s:ecret"})
    async with connected() as cluster:
        await answers(cluster)
    assert door.heard[-1]["Authorization"] == "Basic " + base64.b64encode(b"ada:s:ecret").decode()


async def test_nobody(site: Site) -> None:
    door = await site.door()
    site.write(door.url)
    async with connected() as cluster:
        await answers(cluster)
    assert "Authorization" not in door.heard[-1]


async def test_a_token_in_a_file_is_stripped_read_again_and_counts_before_a_token(site: Site) -> None:
    door = await site.door()
    site.file("token", "one\n")
    site.write(door.url, {"tokenFile": "token", "token": "static"})
    async with connected() as cluster:
        door.accepts = lambda token: token == "one"
        await answers(cluster)
        site.file("token", "  two\n")
        door.accepts = lambda token: token == "two"
        await answers(cluster)


async def test_a_token_file_that_is_empty_or_gone_for_a_moment_is_waited_out(site: Site) -> None:
    door = await site.door()
    door.accepts = lambda token: token == "one"
    site.write(door.url, {"tokenFile": "token"})
    async with connected() as cluster:
        with pytest.raises(CredentialsError, match="No such file"):
            await answers(cluster)
        assert not cluster.is_well.is_set()
        site.file("token", " \n")
        with pytest.raises(CredentialsError):
            await answers(cluster)
        site.file("token", "one")
        await until_answers(cluster)
        (site.directory / "token").unlink()
        await answers(cluster)  # what it had still holds


@pytest.mark.parametrize("token", ["a b", "a\nb", "a\r\nX-Evil: 1", "ä", "\x00"])
async def test_a_token_that_no_header_can_carry_is_unavailable(site: Site, token: str) -> None:
    door = await site.door()
    site.file("token", token)
    site.write(door.url, {"tokenFile": "token"})
    async with connected() as cluster:
        with pytest.raises(CredentialsError, match="no header can carry"):
            await answers(cluster)
    assert door.heard == []


@pytest.mark.parametrize("user", [{"username": "\ud800", "password": "p"}, {"username": "u", "password": "\ud800"}])
async def test_a_kubeconfig_of_a_kind_that_nobody_has_thought_of_is_unavailable(site: Site, user: Json) -> None:
    """No request fails of it as of a defect, which would end jobs."""
    door = await site.door()
    site.write(door.url, user)
    async with connected() as cluster:
        with pytest.raises(CredentialsError, match="cannot be used"):
            await answers(cluster)


async def test_the_kubeconfig_itself_may_be_written_again(site: Site) -> None:
    door = await site.door()
    site.write(door.url, {"token": "one"})
    async with connected() as cluster:
        await answers(cluster)
        site.write(door.url, {"token": "two and longer".replace(" ", "-")})
        door.accepts = lambda token: token == "two-and-longer"
        await answers(cluster)
        site.kubeconfig.write_text("{")  # it is just being written
        await answers(cluster)


async def test_a_kubeconfig_that_names_another_server_by_now_is_not_followed(site: Site) -> None:
    door, other = await site.door(), await site.door()
    site.write(door.url, {"token": "one"})
    async with connected() as cluster:
        await answers(cluster)
        site.write(other.url, {"token": "for the other".replace(" ", "-")})
        await asyncio.sleep(0.1)  # past the time of the next look
        for _ in range(3):
            await answers(cluster)
    assert other.heard == []
    assert {heard["Authorization"] for heard in door.heard} == {"Bearer one"}


async def test_impersonation(site: Site) -> None:
    door = await site.door()
    extra = {"example.com/scope": ["view", "edit"]}
    user = {"token": "t", "as": "jane", "as-uid": "42", "as-groups": ["dev", "ops"], "as-user-extra": extra}
    site.write(door.url, user)
    async with connected() as cluster:
        await answers(cluster)
    heard = door.heard[-1]
    assert (heard["Impersonate-User"], heard["Impersonate-Uid"]) == ("jane", "42")
    assert heard.getall("Impersonate-Group") == ["dev", "ops"]
    assert heard.getall("Impersonate-Extra-example.com%2Fscope") == ["view", "edit"]


# Plugins

EXPIRING = """
e=$(( $(date +%s) + 2 ))
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t-'$e'",
"expirationTimestamp":"'$(date -u -d @$e +%FT%TZ)'"}}'
"""


async def test_a_plugins_token_is_renewed_before_it_expires(site: Site) -> None:
    door = await site.door()
    door.accepts = in_time
    site.write(door.url, site.plugin(EXPIRING))
    async with connected() as cluster, asyncio.timeout(30):
        while site.runs < 4:
            await answers(cluster)
            await asyncio.sleep(0.01)
    assert door.refused[401] == 0


async def test_a_plugin_runs_again_once_for_all_who_are_refused(site: Site) -> None:
    door = await site.door()
    site.write(door.url, site.printing(token="one"))
    async with connected() as cluster:
        await answers(cluster)
        site.printing(token="two")
        door.accepts = lambda token: token == "two"
        await asyncio.gather(*(answers(cluster) for _ in range(20)))
        assert cluster.is_well.is_set()
    assert site.runs == 2


async def test_what_is_refused_for_good_does_not_run_the_plugin_with_every_request(site: Site) -> None:
    door = await site.door()
    door.accepts = lambda token: False
    site.write(door.url, site.printing(token="one"))
    async with connected() as cluster:
        for _ in range(20):
            with pytest.raises(
                CredentialsError, match=r"credentials \(context 'here' of .*\) are not accepted: Unauthor"
            ):
                await answers(cluster)
        assert not cluster.is_well.is_set()
    assert site.runs <= 2


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
    site: Site, script: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_plugin, "PLUGIN_S", 1.0 if "sleep" in script else 30.0)
    door = await site.door()
    site.write(door.url, site.plugin(script))
    async with connected() as cluster:
        for _ in range(3):
            with pytest.raises(CredentialsError, match=why) as raised:
                await answers(cluster)
            assert "secret-token" not in str(raised.value)
        assert not cluster.is_well.is_set()
        assert site.runs < 3
        site.printing(token="t")
        await until_answers(cluster)
    assert door.heard[-1]["Authorization"] == "Bearer t"


async def test_a_plugin_that_is_missing_is_unavailable_with_its_hint(site: Site) -> None:
    door = await site.door()
    plugin = {"apiVersion": V1, "command": "no-such-plugin", "installHint": "Install it\nfrom example.com."}
    site.write(door.url, {"exec": plugin})
    async with connected() as cluster:
        with pytest.raises(CredentialsError, match=r"cannot be started: No such file .*Install it from example.com\."):
            await answers(cluster)


async def test_a_plugin_is_told_what_it_wants_to_know_and_not_the_way_to_redis(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODRELAY_REDIS_URL", "redis://:password@host")
    door = await site.door(site.authority.server_context("kubernetes"))
    user = site.plugin(f"""printf '%s' "$KUBERNETES_EXEC_INFO" > {site.directory}/info; env > {site.directory}/env
echo '{{"apiVersion":"{V1}","kind":"ExecCredential","status":{{"token":"'$1-$STAGE'"}}}}'""")
    user["exec"] |= {"args": ["blue"], "env": [{"name": "STAGE", "value": "prod"}], "provideClusterInfo": True}
    user["exec"]["command"] = "./plugin.sh"  # relative to the kubeconfig
    ca = base64.b64encode(site.authority.pem).decode()
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}
    site.write(
        door.url, user, **{"certificate-authority-data": ca, "tls-server-name": "kubernetes", "extensions": [extension]}
    )
    async with connected() as cluster:
        await answers(cluster)
    assert door.heard[-1]["Authorization"] == "Bearer blue-prod"
    info = json.loads((site.directory / "info").read_text())
    told = {"server": door.url, "tls-server-name": "kubernetes", "certificate-authority-data": ca}
    assert info["spec"] == {"interactive": False, "cluster": {**told, "config": {"audience": "x"}}}
    assert "PODRELAY" not in (site.directory / "env").read_text()


async def test_a_plugins_client_certificate(site: Site) -> None:
    door = await site.door(site.authority.server_context(wants_client=True))
    ca = site.file("ca.crt", site.authority.pem)
    client = site.authority.client("ada")
    status = {"clientCertificateData": client.certificate.decode(), "clientKeyData": client.key.decode()}
    site.write(door.url, site.printing(**status), **{"certificate-authority": str(ca)})
    async with connected() as cluster:
        await answers(cluster)


# TLS


def files_of(site: Site, client: Certified) -> Json:
    site.file("client.crt", client.certificate)
    site.file("client.key", client.key)
    return {"client-certificate": "client.crt", "client-key": "client.key"}


async def test_a_client_certificate_in_files_and_in_data(site: Site) -> None:
    door = await site.door(site.authority.server_context(wants_client=True))
    site.file("ca.crt", site.authority.pem)
    site.write(door.url, files_of(site, site.authority.client("ada")), **{"certificate-authority": "ca.crt"})
    async with connected() as cluster:
        await answers(cluster)
    client = site.authority.client("bob")
    data = {
        "client-certificate-data": base64.b64encode(client.certificate).decode(),
        "client-key-data": base64.b64encode(client.key).decode(),
        "client-certificate": "not-used.crt",
    }
    site.write(door.url, data, **{"certificate-authority": "ca.crt"})
    async with connected() as cluster:
        await answers(cluster)


async def test_a_client_certificate_that_is_renewed_is_used_for_new_connections(site: Site) -> None:
    expired = Authority("an authority of yesterday")
    door = await site.door(site.authority.server_context(wants_client=True))
    site.file("ca.crt", site.authority.pem)
    site.write(door.url, files_of(site, expired.client("ada")), **{"certificate-authority": "ca.crt"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError):
            await answers(cluster)
        files_of(site, site.authority.client("ada"))
        await until_answers(cluster)


async def test_an_authority_that_is_renewed_is_believed(site: Site) -> None:
    door = await site.door(site.authority.server_context())
    site.file("ca.crt", Authority().pem)
    site.write(door.url, {"token": "t"}, **{"certificate-authority": "ca.crt"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await answers(cluster)
        site.file("ca.crt", site.authority.pem)
        await until_answers(cluster)


async def test_a_certificate_for_another_name(site: Site) -> None:
    door = await site.door(site.authority.server_context("kubernetes"))
    site.file("ca.crt", site.authority.pem)
    site.write(door.url, {"token": "t"}, **{"certificate-authority": "ca.crt"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError, match="IP address mismatch"):
            await answers(cluster)
    site.write(door.url, {"token": "t"}, **{"certificate-authority": "ca.crt", "tls-server-name": "kubernetes"})
    async with connected() as cluster:
        await answers(cluster)
        with pytest.raises(ClusterRefusedError):
            async with cluster.log("default", "none", "base", since=None, follow=True):
                pass
    site.write(door.url, {"token": "t"}, **{"insecure-skip-tls-verify": True})
    async with connected() as cluster:
        await answers(cluster)
    site.write(door.url, {"token": "t"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await answers(cluster)


# The way


async def test_a_proxy(site: Site) -> None:
    door = await site.door()
    proxy = await site.proxy(door)
    url = proxy.url.replace("http://", "http://ada:s3cret@")
    site.write("http://cluster.invalid:6443", {"token": "t"}, **{"proxy-url": url})
    async with connected() as cluster:
        await answers(cluster)
    assert proxy.asked[0].startswith("GET http://cluster.invalid:6443/api/v1/namespaces/default/pods/none ")
    assert proxy.credentials == ["Basic " + base64.b64encode(b"ada:s3cret").decode()]


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_proxy_to_a_server_with_tls(site: Site, is_tls: bool) -> None:
    door = await site.door(site.authority.server_context("kubernetes"))
    proxy = await site.proxy(door, site.authority.server_context() if is_tls else None)
    site.file("ca.crt", site.authority.pem)
    cluster_entry = {"certificate-authority": "ca.crt", "tls-server-name": "kubernetes", "proxy-url": proxy.url}
    site.write("https://cluster.invalid", {"token": "t"}, **cluster_entry)
    async with connected() as cluster:
        await answers(cluster)
    assert proxy.asked[0].startswith("CONNECT cluster.invalid:443 ")


async def test_a_proxy_that_is_not_there_is_not_passed_by(site: Site) -> None:
    door = await site.door()
    site.write(door.url, {"token": "t"}, **{"proxy-url": "http://127.0.0.1:9"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError, match=r"127\.0\.0\.1:9"):
            await answers(cluster)
    assert door.heard == []


async def test_the_environments_proxy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    door = await site.door()
    proxy = await site.proxy(door)
    monkeypatch.setenv("HTTP_PROXY", proxy.address)
    site.write("http://cluster.invalid", {"token": "t"})
    async with connected() as cluster:
        await answers(cluster)
    assert len(proxy.asked) == 1
    monkeypatch.setenv("NO_PROXY", ".invalid")
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError, match=r"cluster\.invalid"):
            await answers(cluster)
    assert len(proxy.asked) == 1


async def test_a_server_behind_a_path(site: Site) -> None:
    door = await site.door()
    site.write(f"{door.url}/k8s/clusters/c-1/", {"token": "t"})
    async with connected() as cluster:
        with pytest.raises(ClusterUnavailableError):
            await answers(cluster)  # the pocket cluster has no such path: not a word about the pod


# In a pod


async def test_a_pods_service_account_whose_token_is_rotated(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    door = await site.door(site.authority.server_context())
    monkeypatch.setattr(kubeconfig, "_SERVICE_ACCOUNT", site.directory)
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(door.port))
    for name, content in (("namespace", "team"), ("token", "one"), ("ca.crt", site.authority.pem)):
        site.file(name, content)
    door.accepts = lambda token: token == "one"
    async with connected() as cluster:
        assert cluster.default_namespace == "team"
        await answers(cluster)
        site.file("token", "two")
        door.accepts = lambda token: token == "two"
        await answers(cluster)


# Several files


async def test_several_files_are_merged_as_kubectl_does(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    door = await site.door()
    (site.directory / "a").mkdir()
    (site.directory / "b").mkdir()
    site.file("a/token", "right")
    a = {
        "current-context": "one",
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
        "clusters": [],
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
    }
    b = {
        "current-context": "two",
        "users": [{"name": "u", "user": {"token": "wrong"}}],
        "clusters": [{"name": "c", "cluster": {"server": door.url}}],
        "contexts": None,
    }
    site.file("a/config", yaml.safe_dump(a))
    site.file("b/config", yaml.safe_dump(b))
    site.file("empty", "")
    files = ["missing", "empty", "a/config", "b/config"]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(str(site.directory / name) for name in files))
    async with connected() as cluster:
        assert cluster.default_namespace == "team"
        await answers(cluster)
    assert door.heard[-1]["Authorization"] == "Bearer right"


# A worker that begins without its right


async def test_credentials_that_are_refused_for_a_while_end_a_watch_and_are_taken_again(site: Site) -> None:
    door = await site.door()
    until = time.monotonic() + 2
    site.write(door.url, {"token": "t"})
    async with connected() as cluster:
        _, version = await cluster.list_pods("default", "a=b")
        watch = cluster.watch_pods("default", "a=b", version)
        waiting = asyncio.ensure_future(anext(watch))
        async with asyncio.timeout(20):
            while sum("watch" in str(heard) for heard in door.heard) == 0 and len(door.heard) < 2:
                await asyncio.sleep(0.01)
        door.accepts = lambda token: time.monotonic() > until
        with pytest.raises(CredentialsError):
            await answers(cluster)
        assert not cluster.is_well.is_set()
        with pytest.raises(ClusterUnavailableError):
            await waiting
        await until_answers(cluster)
        await cluster.list_pods("default", "a=b")
        assert cluster.is_well.is_set()


async def test_no_configuration_at_all_is_one_line(site: Site) -> None:
    with pytest.raises(ConfigurationError, match=r"kubeconfig does not exist: KUBECONFIG names the file") as raised:
        await Cluster.connect(connections=1)
    assert "\n" not in str(raised.value)

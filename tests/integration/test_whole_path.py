"""The whole path with real processes: a caller in a process of its own, Redis, a Celery worker, the pocket cluster."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
import redis

from dispatcher import names, steps
from dispatcher.aio import AsyncDispatcher
from dispatcher.client import Dispatcher
from dispatcher.events import Ended, JobResult, LogChunk, LogGap, Notice, ReturnValueOutcome
from dispatcher.message import encode_message
from dispatcher.script import script_text
from dispatcher.spec import JobSpec, Priority
from dispatcher.status import FailureReason, Status
from tests.support.installation import QUICK, Installation, clean_environment, running_installation
from tests.support.redis_changes import wait_for_key


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with running_installation(quotas={"full": 0}, namespaces=("default", "full")) as running:
        running.start_worker(namespaces="default,full", **QUICK)
        yield running


@pytest.fixture
def client(installation: Installation) -> Iterator[Dispatcher]:
    with Dispatcher(installation.client_settings()) as dispatcher:
        yield dispatcher


def python(code: str, **fields: Any) -> JobSpec:
    return JobSpec(image="python:3.6", command=("python", "-c"), args=(code,), **fields)


def followed(client: Dispatcher, spec: JobSpec) -> tuple[JobResult, bytes]:
    """Submit, follow to the end, and return the result and the log."""
    client.submit(spec)
    log = b""
    for heard in client.follow(spec.id):
        assert not isinstance(heard.event, LogGap), heard.event
        if isinstance(heard.event, LogChunk):
            log += heard.event.data
        if isinstance(heard.event, Ended):
            return heard.event.result, log
    raise AssertionError("the channel ended without a result")


def podrelay(installation: Installation, *arguments: str) -> "subprocess.Popen[bytes]":
    env = clean_environment(PODRELAY_REDIS_URL=installation.redis_url)
    command = [sys.executable, "-m", "dispatcher.cli", *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_pods_gone(installation: Installation, job_id: str) -> None:
    """Wait until the cluster has no pod of the job any more."""
    label = names.LABEL_JOB
    installation.pocket.wait_for_pods(
        lambda pods: all(pod["metadata"].get("labels", {}).get(label) != job_id for pod in pods)
    )


def test_a_job_of_another_process_runs_and_its_log_and_exit_code_come_back(installation: Installation) -> None:
    code = "import sys; print('hello world'); sys.exit(7)"
    process = podrelay(installation, "submit", "--follow", "--image", "python:3.6", "--", "python", "-c", code)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 7, err
    assert out == b"hello world\n"
    assert b"RUNNING" in err


def test_a_missing_command_is_a_start_error_that_names_it(client: Dispatcher) -> None:
    spec = JobSpec(image="ubuntu:1604", command=("python", "-c"), args=("print('hello world')",))
    result, log = followed(client, spec)
    assert (result.status, result.reason, log) == (Status.FAILED, FailureReason.START_ERROR, b"")
    assert '"python": executable file not found' in result.message


def test_bytes_that_are_no_utf_8_and_no_final_newline_arrive_as_they_were_written(client: Dispatcher) -> None:
    result, log = followed(client, python("import sys; sys.stdout.buffer.write(bytes(range(256)) * 300)"))
    assert log == bytes(range(256)) * 300
    assert result.logs["base"].bytes == len(log)
    assert result.log_complete


def test_a_return_value_of_300_kb_comes_back(client: Dispatcher) -> None:
    code = "import json; json.dump({'text': 'x' * 300_000}, open('/airflow/xcom/return.json', 'w'))"
    result, _ = followed(client, python(code, return_value=True))
    assert result.return_value == {"text": "x" * 300_000}


@pytest.mark.parametrize(
    ("code", "outcome", "status"),
    [
        ("print('nothing')", ReturnValueOutcome.MISSING, Status.SUCCEEDED),
        ("open('/airflow/xcom/return.json', 'w').write('{nope')", ReturnValueOutcome.NOT_JSON, Status.FAILED),
        ("open('/airflow/xcom/return.json', 'w').write('1' * 1048577)", ReturnValueOutcome.TOO_LARGE, Status.FAILED),
    ],
)
def test_a_return_value_that_cannot_be_had_says_why(
    client: Dispatcher, code: str, outcome: ReturnValueOutcome, status: Status
) -> None:
    result, _ = followed(client, python(code, return_value=True))
    assert (result.return_value_outcome, result.status) == (outcome, status)
    assert (result.reason is FailureReason.RETURN_VALUE) is (status is Status.FAILED)


def test_a_spec_that_the_api_server_refuses_ends_with_its_own_words(client: Dispatcher) -> None:
    unknown_field, _ = followed(client, python("pass", volumes=({"name": "x", "emptyDirr": {}},)))
    assert unknown_field.reason is FailureReason.INVALID_SPEC
    assert 'unknown field "spec.volumes[0].emptyDirr"' in unknown_field.message
    invalid, _ = followed(client, python("pass", volume_mounts=({"name": "nowhere", "mountPath": "/x"},)))
    assert invalid.reason is FailureReason.INVALID_SPEC
    assert "spec.containers[0].volumeMounts[0].name" in invalid.message


def test_the_worker_s_policy_refuses_what_belongs_to_the_node(client: Dispatcher) -> None:
    result, _ = followed(client, python("pass", host_network=True))
    assert result.reason is FailureReason.POLICY
    assert "hostNetwork" in result.message


def test_quota_is_waited_for_until_the_queue_timeout_and_holds_up_nobody_else(client: Dispatcher) -> None:
    waiting = python("pass", namespace="full", queue_timeout_s=2)
    client.submit(waiting)
    result, _ = followed(client, python("print('meanwhile')"))
    assert result.succeeded
    result = client.result(waiting.id, 60)
    assert (result.status, result.reason) == (Status.FAILED, FailureReason.QUOTA_TIMEOUT)


def test_a_namespace_that_no_worker_serves_is_told_and_waited_for(client: Dispatcher) -> None:
    spec = python("pass", namespace="elsewhere", queue_timeout_s=3)
    client.submit(spec)
    details = [getattr(heard.event, "detail", "") for heard in client.follow(spec.id)]
    assert "no worker serves namespace elsewhere" in details
    assert client.result(spec.id, 60).reason is FailureReason.QUEUE_TIMEOUT


def test_a_namespace_that_no_live_worker_is_to_serve_fails_the_job_with_those_that_are(
    installation: Installation, client: Dispatcher
) -> None:
    spec = python("pass", namespace="defualt")
    client.submit(spec)
    with redis.Redis.from_url(installation.redis_url) as server:
        for heard in client.follow(spec.id):
            if getattr(heard.event, "detail", "") == "no worker serves namespace defualt":
                given_s = float(server.hget(names.job(spec.id), "unserved_until")) - client.now()  # type: ignore[arg-type]
                assert 0 < given_s <= 30
                server.hset(names.job(spec.id), "unserved_until", "1.0")  # its time is over
    result = client.result(spec.id)
    assert result.reason is FailureReason.INVALID_SPEC
    assert "no worker of queue 'default' serves namespace 'defualt'" in result.message
    assert "those that are alive serve: default, full." in result.message


@pytest.mark.parametrize(
    ("written", "outcome", "value"),
    [
        ('{"rows": 3}', ReturnValueOutcome.PRESENT, {"rows": 3}),
        ("{nope", ReturnValueOutcome.NOT_JSON, None),
        ("", ReturnValueOutcome.MISSING, None),
    ],
)
def test_a_job_that_fails_has_its_return_value_all_the_same(
    client: Dispatcher, written: str, outcome: ReturnValueOutcome, value: Any
) -> None:
    code = f"open('/airflow/xcom/return.json', 'w').write({written!r}); raise SystemExit(3)"
    result, _ = followed(client, python(code, return_value=True))
    assert (result.reason, result.exit_code) == (FailureReason.EXIT_CODE, 3)
    assert (result.return_value_outcome, result.return_value) == (outcome, value)


def test_a_running_job_that_is_cancelled_leaves_no_pod_and_says_who_asked(
    installation: Installation, client: Dispatcher
) -> None:
    spec = python("import time; time.sleep(600)", termination_grace_period_s=1)
    client.submit(spec)
    for heard in client.follow(spec.id):
        if getattr(heard.event, "status", None) is Status.RUNNING:
            client.cancel(spec.id, "the test")
            client.cancel(spec.id, "somebody else")
    result = client.result(spec.id)
    assert (result.status, result.cancelled_by) == (Status.CANCELLED, "the test")
    wait_for_pods_gone(installation, spec.id)


def test_the_second_submit_of_a_key_gets_the_first_one_s_job_until_it_is_acknowledged(client: Dispatcher) -> None:
    first, again, anew = (python("print('once')", key="report of today") for _ in range(3))
    result, _ = followed(client, first)
    assert client.submit(again).job_id == first.id
    client.acknowledge(first.id)
    assert client.submit(anew).job_id == anew.id
    assert result.succeeded
    assert client.result(anew.id, 60).succeeded


def test_messages_that_are_no_specs_go_to_the_dead_letters_and_the_worker_goes_on(installation: Installation) -> None:
    queue = names.message_list("default", 0)
    spec = {"id": "from-another-language", "image": "busybox:1", "command": ["echo", "hello"]}
    bad = {"id": "bad", "imagge": "busybox:1"}
    with redis.Redis.from_url(installation.redis_url) as raw, Dispatcher(installation.client_settings()) as client:
        before = raw.llen(names.dead_letters("default"))
        wrong_task = encode_message(bad, queue="default", priority=Priority.HIGH).replace("podrelay.launch", "other")
        raw.lpush(queue, b"\xff\xfe not JSON", b"[1, 2]", wrong_task)
        raw.lpush(queue, encode_message(bad, queue="default", priority=Priority.HIGH))
        raw.lpush(queue, encode_message(spec, queue="default", priority=Priority.HIGH))
        wait_for_key(raw, names.job("from-another-language"))
        assert client.result("from-another-language", 60).succeeded
        letters = [json.loads(x) for x in raw.lrange(names.dead_letters("default"), 0, -1)]  # type: ignore[union-attr]
    assert len(letters) - before == 4  # type: ignore[operator]
    reasons = "\n".join(letter["reason"] for letter in letters)
    assert "imagge: unknown field (did you mean 'image'?)" in reasons
    assert "not JSON" in reasons
    assert "unknown task 'other'" in reasons


def test_a_spec_of_a_newer_version_fails_its_job_and_not_the_worker(
    installation: Installation, client: Dispatcher
) -> None:
    spec = python("pass")
    with redis.Redis.from_url(installation.redis_url) as raw:
        submitted = steps.submit(spec, with_message=False)
        raw.eval(script_text("submit"), len(submitted.keys), *submitted.keys, *submitted.args)
        raw.hset(names.job(spec.id), "spec", '{"image": "x", "priority": "galactic"}')
    result = client.result(spec.id, 60)
    assert result.reason is FailureReason.INVALID_SPEC
    assert "priority" in result.message


def test_one_job_costs_at_most_five_api_requests(installation: Installation, client: Dispatcher) -> None:
    before = sum(installation.pocket.requests().values())
    results = [followed(client, python("print('cheap')"))[0] for _ in range(5)]
    assert all(result.succeeded for result in results)
    assert sum(installation.pocket.requests().values()) - before <= 5 * 5


async def test_a_killed_worker_s_job_goes_on_where_its_log_stopped_with_the_same_pod(
    installation: Installation,
) -> None:
    with running_installation() as own:
        first = own.start_worker("first", **QUICK)
        lines = 4000
        code = f"import time\nfor i in range({lines}):\n  print(i, 'x' * (i % 200), flush=True)\n  time.sleep(0.001)"
        spec = python(code)
        got: dict[str, bytes] = {"log": b""}
        takeovers = []
        async with AsyncDispatcher(own.client_settings()) as client:
            await client.submit(spec)
            async with aclosing(client.follow(spec.id)) as following:
                async for heard in following:
                    match heard.event:
                        case LogChunk(data=data):
                            if first.is_alive and len(got["log"]) > 10_000:
                                first.kill()
                                await asyncio.to_thread(own.start_worker, "second", **QUICK)
                            got["log"] += data
                        case LogGap():
                            pytest.fail(f"a gap: {heard.event}")
                        case Notice(text=text):
                            takeovers.append(text)
                        case Ended(result=result):
                            assert result.succeeded, result
                            assert result.log_complete
            record = await client.get(spec.id)
        assert got["log"] == b"".join(b"%d %s\n" % (i, b"x" * (i % 200)) for i in range(lines))
        assert any("took over" in text for text in takeovers)
        assert (record.takeovers, record.attempt) == (1, 1)
        assert len(own.pocket.ever_created()) == 1

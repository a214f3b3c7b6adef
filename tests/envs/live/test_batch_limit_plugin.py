"""The plug-in's own logic, without vLLM: limits, versions, and the route's answers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.live.batch_limit import ARGUMENTS, PATH, PLUGIN_DIR
from envs.live.vllm_plugin.pals_batch_limit import route, versions
from envs.live.vllm_plugin.pals_batch_limit.limits import KEYS, MODES, Limits, check_body


def test_lowering_drains_and_never_undercuts_the_running() -> None:
    clock = iter([0.0, 1.0, 4.0]).__next__
    limits = Limits(32, 2048, clock)
    limits.change({"max_num_seqs": 4}, running=10)
    assert limits.surplus(10) == 0
    assert limits.slots(10) == 10
    assert limits.state(10, 0)["effect_delay_s"] is None
    limits.observe(5)
    assert limits.state(5, 0)["effect_delay_s"] is None
    limits.observe(4)
    assert limits.state(4, 0)["effect_delay_s"] == 3.0
    assert limits.slots(3) == 4


def test_preempting_sends_the_surplus_back() -> None:
    limits = Limits(32, 2048)
    limits.change({"max_num_seqs": 4, "mode": "preempt"}, running=10)
    assert limits.surplus(10) == 6
    assert limits.surplus(4) == 0


def test_raising_takes_effect_at_once() -> None:
    limits = Limits(32, 2048)
    limits.change({"max_num_seqs": 4}, running=4)
    limits.change({"max_num_seqs": 8}, running=4)
    assert limits.state(4, 3)["effect_delay_s"] is not None


@pytest.mark.parametrize(
    "changes",
    [{"max_num_seqs": 0}, {"max_num_seqs": 33}, {"max_num_batched_tokens": 4096},
     {"max_num_batched_tokens": 64, "max_num_seqs": 99}],
)  # fmt: skip
def test_out_of_range_changes_nothing(changes: dict[str, Any]) -> None:
    limits = Limits(32, 2048)
    before = limits.state(0, 0)
    with pytest.raises(ValueError, match=r"outside 1\.\."):
        limits.change(changes, running=0)
    assert limits.state(0, 0) == before


@given(
    st.integers(1, 64), st.integers(1, 64), st.integers(0, 64), st.sampled_from(MODES)
)  # fmt: skip
def test_a_step_never_breaks_the_schedulers_assertions(
    ceiling: int, limit: int, running: int, mode: str
) -> None:
    limit, running = min(limit, ceiling), min(running, ceiling)
    limits = Limits(ceiling, 128)
    limits.change({"max_num_seqs": limit, "max_num_batched_tokens": 1, "mode": mode}, running)
    left = running - limits.surplus(running)
    assert left <= limits.slots(left) <= ceiling
    assert limits.slots(left) <= max(limit, running)
    assert min(left, 128) <= limits.tokens(left) <= 128
    if mode == "preempt":
        assert left <= limit


@pytest.mark.parametrize(
    "body", [None, [], {}, 3, {"max_num_seqs": "4"}, {"max_num_seqs": 4.0}, {"max_num_seqs": True},
             {"mode": "kill"}, {"batch": 4}],
)  # fmt: skip
def test_malformed_bodies_are_refused(body: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_body(body)


def test_versions_it_was_not_run_with_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("0.32.0", "0.32.5+cpu"):
        versions.check(version)
    for version in ("0.9.2", "0.31.0", "0.33.0", "0.3", "dev"):
        with pytest.raises(versions.UnsupportedVllmError, match=r"0\.32"):
            versions.check(version)
    monkeypatch.setenv(versions.OVERRIDE, "1")
    versions.check("0.33.0")


def test_it_needs_nothing_of_this_project() -> None:
    """The plug-in is imported where vLLM is and gymnasium, numpy and this project are not."""
    code = (
        "import sys, types; sys.modules['vllm'] = types.SimpleNamespace(__version__='0.32.0')\n"
        "from pals_batch_limit import limits, route, versions\n"
        "route.BatchLimitRoute(None)\n"
        "bad = {'envs', 'gymnasium', 'numpy', 'omegaconf', 'aiohttp'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    code = f"import sys; sys.path.insert(0, {str(PLUGIN_DIR)!r})\n{code}"
    subprocess.run([sys.executable, "-I", "-c", code], check=True)


def test_the_client_and_the_plugin_agree_on_names() -> None:
    assert route.PATH == PATH
    assert (PLUGIN_DIR / "pals_batch_limit" / "scheduler.py").is_file()
    assert ARGUMENTS[1].startswith("pals_batch_limit.scheduler.")
    assert ARGUMENTS[3] == f"pals_batch_limit.route.{route.BatchLimitRoute.__name__}"


class Core:
    """Stands in for vLLM's client of the engine core."""

    def __init__(self) -> None:
        self.limits = Limits(32, 2048)
        self.error: Exception | None = None
        self.delay_s = 0.0

    async def call_utility_async(self, name: str, changes: Any) -> dict[str, Any]:
        assert name == route.UTILITY
        await asyncio.sleep(self.delay_s)
        if self.error:
            raise self.error
        if changes:
            try:
                self.limits.change(changes, 0)
            except ValueError as error:
                return {"error": str(error)}
        return self.limits.state(0, 0)


class Call:
    """Sends requests through the route, as an ASGI server would."""

    def __init__(self, keys: list[str] | None = None) -> None:
        self.core = Core()
        self.passed_on: list[str] = []
        arguments = SimpleNamespace(api_key=keys)
        client = SimpleNamespace(engine_core=self.core)
        self.app = SimpleNamespace(state=SimpleNamespace(args=arguments, engine_client=client))
        self.route = route.BatchLimitRoute.__new__(route.BatchLimitRoute)
        self.route._app = self._inner

    async def _inner(self, scope: Any, receive: Any, send: Any) -> None:
        self.passed_on.append(scope["path"])

    def __call__(
        self, method: str = "GET", body: bytes = b"", *, path: str = PATH,
        client: Any = ("127.0.0.1", 4), **headers: str,
    ) -> tuple[int, Any]:  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": path, "client": client, "app": self.app,
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }  # fmt: skip
        asyncio.run(self.route(scope, receive, send))
        if not sent:
            return 0, None
        return sent[0]["status"], json.loads(sent[1]["body"])


def test_reads_and_changes_the_limits() -> None:
    call = Call()
    assert call()[1]["max_num_seqs"] == 32
    status, answer = call("PUT", b'{"max_num_seqs": 4, "mode": "preempt"}')
    assert (status, answer["max_num_seqs"], answer["mode"]) == (200, 4, "preempt")
    assert set(KEYS) <= set(answer)
    assert call(path=PATH + "/")[0] == 200


def test_everything_else_is_passed_on() -> None:
    call = Call()
    assert call(path="/v1/completions") == (0, None)
    assert call(path=PATH + "/more") == (0, None)
    assert call.passed_on == ["/v1/completions", PATH + "/more"]


def test_the_servers_key_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(["right", "other"])
    put = b'{"max_num_seqs": 4}'
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic right"},
                    {"authorization": "right"}):  # fmt: skip
        assert call("PUT", put, **headers)[0] == 401
    assert call.core.limits.max_num_seqs == 32
    assert call("PUT", put, authorization="Bearer other")[0] == 200
    monkeypatch.setenv("VLLM_API_KEY", "from-environment")
    assert Call()()[0] == 401
    assert Call()(authorization="bearer from-environment")[0] == 200
    assert Call(["right"])(authorization="Bearer from-environment")[0] == 401


def test_a_server_that_does_not_tell_its_key_is_left_alone() -> None:
    call = Call()
    del call.app.state.args
    assert call()[0] == 503


def test_only_loopback_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call()
    assert call(client=("10.1.2.3", 4))[0] == 403
    assert call(client=("testclient", 4))[0] == 403
    assert call(client=("::1", 4))[0] == 200
    assert call(client=None)[0] == 200
    assert call(origin="http://page.example")[0] == 403
    monkeypatch.setenv(route.ALLOW_REMOTE, "1")
    assert call(client=("10.1.2.3", 4))[0] == 200


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("PUT", b'{"max_num_seqs": 0}', 422),
        ("PUT", b'{"max_num_seqs": 33}', 422),
        ("PUT", b'{"max_num_seqs": "4"}', 422),
        ("PUT", b"not json", 422),
        ("PUT", b"\xff\xfe", 422),
        ("PUT", b"", 422),
        ("PUT", b"[" * 3000, 422),
        ("PUT", b" " * 5000 + b'{"max_num_seqs": 4}', 422),
        ("POST", b'{"max_num_seqs": 4}', 405),
        ("OPTIONS", b"", 405),
    ],
)
def test_bad_requests_change_nothing(method: str, body: bytes, status: int) -> None:
    call = Call()
    before = call()[1]
    assert call(method, body)[0] == status
    assert call()[1] == before


def test_an_engine_that_fails_or_hangs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call()
    call.core.error = RuntimeError("engine dead")
    assert call() == (503, {"error": "the engine refused: engine dead"})
    call.core.error = None
    call.core.delay_s = 1.0
    monkeypatch.setattr(route, "ENGINE_TIMEOUT_S", 0.05)
    assert call()[0] == 504

"""The plug-in's own logic, without vLLM: limits, versions, and the route's answers."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.live.batch_limit import ARGUMENTS, PATH, PLUGIN_DIR
from envs.live.vllm_plugin.pals_batch_limit import features, route, versions
from envs.live.vllm_plugin.pals_batch_limit.lease import HeldError, LimitsError, OtherInstanceError
from envs.live.vllm_plugin.pals_batch_limit.limits import KEYS, MODES, Limits, check_body
from envs.live.vllm_plugin.pals_batch_limit.preemption import Preemption


def test_lowering_drains_and_never_undercuts_the_running() -> None:
    clock = iter([1.0, 4.0]).__next__
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
    with pytest.raises(LimitsError, match=r"outside 1\.\."):
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
             {"mode": "kill"}, {"batch": 4}, {"instance": 3}, {"owner": "a"}, {"lease_s": 1.0},
             {"owner": "", "lease_s": 1}, {"owner": "a\x1b[2J", "lease_s": 1},
             {"owner": "a" * 200, "lease_s": 1}, {"owner": "a", "lease_s": "1"},
             {"owner": "a", "lease_s": -1}, {"owner": "a", "lease_s": float("nan")},
             {"owner": "a", "lease_s": 1e9}, {"owner": "a", "lease_s": True},
             {"owner": "a", "lease_s": 10**400}],
)  # fmt: skip
def test_malformed_bodies_are_refused(body: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_body(body)


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_keeps_others_out_and_its_end_puts_back_what_it_found() -> None:
    clock = Clock()
    limits = Limits(32, 2048, clock)
    limits.change({"max_num_seqs": 20}, running=0)  # by hand: nobody is in control
    mine = {"owner": "me", "lease_s": 10.0, "instance": limits.instance}
    limits.change(mine | {"max_num_seqs": 4, "mode": "preempt"}, running=0)
    for theirs in ({"max_num_seqs": 8}, {"owner": "they", "lease_s": 10.0}, {"mode": "drain"}):
        with pytest.raises(HeldError, match="controlled by me"):
            limits.change(theirs, running=0)
    clock.now = 9.0
    limits.change(mine | {"max_num_seqs": 2}, running=0)  # renewed: what was found is kept
    clock.now = 18.0
    assert limits.state(0, 0)["owner"] == "me"
    limits.change(mine | {"lease_s": 0}, running=0)
    state = limits.state(0, 0)
    assert (state["max_num_seqs"], state["mode"], state["owner"]) == (20, "drain", None)
    limits.change({"max_num_seqs": 25}, running=0)
    limits.change(mine | {"lease_s": 0}, running=0)  # nothing of mine is left to put back
    assert limits.max_num_seqs == 25


@pytest.mark.parametrize("busy", [True, False])
def test_a_lease_that_is_not_renewed_lapses_by_itself(busy: bool) -> None:
    clock = Clock()
    limits = Limits(32, 2048, clock)
    limits.change({"owner": "me", "lease_s": 10.0, "max_num_seqs": 4}, running=0)
    clock.now = 10.5
    if busy:
        limits.begin_step(0)
        assert limits.slots(0) == 32
    assert limits.state(0, 0)["max_num_seqs"] == 32
    limits.change({"owner": "they", "lease_s": 10.0, "max_num_seqs": 8}, running=0)
    with pytest.raises(HeldError, match="they"):
        limits.change({"owner": "me", "lease_s": 0}, running=0)


def test_a_change_for_another_instance_is_refused() -> None:
    limits, other = Limits(32, 2048), Limits(32, 2048)
    assert limits.instance != other.instance
    with pytest.raises(OtherInstanceError):
        limits.change({"instance": other.instance, "max_num_seqs": 4}, running=0)
    limits.change({"instance": f"{other.instance}+{limits.instance}", "max_num_seqs": 4}, 0)
    assert limits.max_num_seqs == 4


def test_renewing_keeps_the_time_of_the_effect() -> None:
    clock = Clock()
    limits = Limits(32, 2048, clock)
    mine = {"owner": "me", "lease_s": 10.0, "max_num_seqs": 4}
    limits.change(mine, running=10)
    clock.now = 3.0
    limits.change(mine, running=10)
    limits.observe(4)
    assert limits.state(4, 0)["effect_delay_s"] == 3.0


def test_old_releases_are_refused_and_new_ones_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("0.24.0", "0.32.5+cpu", "0.33.0"):
        assert versions.check(version) is None
    for version in ("0.34.1", "1.0.0", "dev"):
        assert "goes on" in str(versions.check(version))
    for version in ("0.9.2", "0.23.0", "0.3"):
        with pytest.raises(versions.UnsupportedVllmError, match=r"0\.24 to 0\.33"):
            versions.check(version)
    monkeypatch.setenv(versions.OVERRIDE, "1")
    assert versions.check("0.23.0") is not None


class Whole:
    """A scheduler with all that is needed."""

    def __init__(self) -> None:
        self.max_num_running_reqs = self.max_num_scheduled_tokens = 4
        self.running: list[Any] = []
        self.policy = None

    def schedule(self) -> None: ...

    def get_request_counts(self) -> None: ...

    def _preempt_request(self, request: Any, timestamp: float) -> None: ...


class Dropping(Whole):
    def _preempt_request(
        self, request: Any, timestamp: float, drop_stale_output: bool = False
    ) -> None: ...


def test_a_vllm_that_lacks_something_is_told_what() -> None:
    class Lacking(Whole):
        _preempt_request = None  # type: ignore[assignment]

    class Renamed(Whole):
        def _preempt_request(self, victim: Any, timestamp: float) -> None: ...  # type: ignore[override]

    features.check_classes(Whole, Dropping, "0.40.0")
    for cls in (Lacking, Renamed):
        with pytest.raises(
            versions.UnsupportedVllmError, match=r"0\.40\.0.*_preempt_request\(request, timestamp\)"
        ):
            features.check_classes(cls, cls, "0.40.0")
    with pytest.raises(versions.UnsupportedVllmError, match="Whole as a kind of Dropping"):
        features.check_classes(Dropping, Whole, "0.40.0")
    whole = Whole()
    features.check_built(whole, "0.40.0")
    del whole.max_num_scheduled_tokens
    with pytest.raises(versions.UnsupportedVllmError, match=r"no Scheduler\.max_num_scheduled_tok"):
        features.check_built(whole, "0.40.0")
    assert [features.can_drop(cls) for cls in (Whole, Dropping)] == [False, True]


class Scheduler:
    """As much of vLLM's scheduler as a preemption touches."""

    def __init__(self, *running: SimpleNamespace, **more: Any) -> None:
        self.running = list(running)
        self.policy = SimpleNamespace(value="fcfs")
        self.preempted: list[tuple[str, dict[str, Any]]] = []
        self.__dict__.update(more)

    def _preempt_request(
        self, request: Any, timestamp: float, drop_stale_output: bool = False
    ) -> None:
        assert request not in self.running
        self.preempted.append((request.name, {"drop_stale_output": drop_stale_output}))


class OlderScheduler(Scheduler):
    def _preempt_request(self, request: Any, timestamp: float) -> None:  # type: ignore[override]
        self.preempted.append((request.name, {}))


def three(*priorities: int) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(name=name, priority=priority, arrival_time=float(index))
        for index, (name, priority) in enumerate(zip("abc", priorities, strict=True))
    ]


def test_the_newest_or_least_important_is_preempted_first() -> None:
    scheduler = Scheduler(*three(0, 0, 0))
    assert Preemption(scheduler).run(2, 0.0) == 2
    assert [name for name, _ in scheduler.preempted] == ["c", "b"]
    assert [request.name for request in scheduler.running] == ["a"]
    important = Scheduler(*three(5, 0, 5), policy=SimpleNamespace(value="priority"))
    Preemption(important).run(2, 0.0)
    assert [name for name, _ in important.preempted] == ["c", "a"]


@pytest.mark.parametrize(
    ("more", "drops"),
    [
        ({}, False),
        ({"connector": None, "requires_kv_delivery": False}, False),
        ({"connector": object(), "requires_kv_delivery": True}, True),  # it hands caches on
        ({"connector": object(), "requires_kv_delivery": False}, False),  # a cache beside it
        ({"connector": object()}, True),  # a vLLM that does not tell which
    ],
)
def test_output_in_flight_is_dropped_where_caches_are_handed_on(
    more: dict[str, Any], drops: bool
) -> None:
    scheduler = Scheduler(*three(0, 0, 0), **more)
    preemption = Preemption(scheduler)
    assert preemption.allowed
    preemption.run(1, 0.0)
    assert scheduler.preempted == [("c", {"drop_stale_output": drops})]


def test_requests_whose_blocks_cannot_be_freed_are_passed_over_and_looked_at_again() -> None:
    busy = {"c", "b"}
    scheduler = Scheduler(
        *three(0, 0, 0),
        connector=object(),
        requires_kv_delivery=True,
        _request_blocks_can_be_freed=lambda request: request.name not in busy,
    )
    preemption = Preemption(scheduler)
    assert preemption.run(2, 0.0) == 1
    assert [request.name for request in scheduler.running] == ["b", "c"]
    busy.clear()
    assert preemption.run(1, 0.0) == 1
    assert [request.name for request in scheduler.running] == ["b"]


def test_a_vllm_that_cannot_drop_does_not_preempt_beside_a_connector() -> None:
    alone = OlderScheduler(*three(0, 0, 0))
    assert Preemption(alone).run(1, 0.0) == 1
    assert alone.preempted == [("c", {})]
    beside = OlderScheduler(*three(0, 0, 0), connector=object())
    preemption = Preemption(beside)
    assert not preemption.allowed
    assert preemption.run(1, 0.0) == 0
    assert beside.preempted == []


class OldVllm(Whole):
    """A scheduler with a KV connector, of a vLLM that cannot drop output in flight."""

    connector = object()

    def __init__(self) -> None:
        super().__init__()
        self.scheduled = 0

    def get_request_counts(self) -> tuple[int, int]:  # type: ignore[override]
        return len(self.running), 0


class OldAsync(OldVllm): ...


def test_preempting_is_refused_where_it_could_hand_on_blocks_that_were_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stubs = {
        "vllm": {"__version__": "0.24.0"},
        "vllm.v1.core.sched.async_scheduler": {"AsyncScheduler": OldAsync},
        "vllm.v1.core.sched.scheduler": {"Scheduler": OldVllm},
        "vllm.v1.engine.core": {"EngineCore": type("EngineCore", (), {})},
    }
    for name, content in stubs.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))
    plugin = "envs.live.vllm_plugin.pals_batch_limit.scheduler"
    monkeypatch.delitem(sys.modules, plugin, raising=False)
    module = importlib.import_module(plugin)
    core = SimpleNamespace(scheduler=module.SyncBatchLimitScheduler())
    answer = module._utility(core, {"mode": "preempt"})
    assert answer["status"] == 422
    assert "KV connector" in answer["error"]
    state = module._utility(core, {"max_num_seqs": 2})
    assert (state["mode"], state["max_num_seqs"], state["preempts"]) == ("drain", 2, False)
    monkeypatch.delitem(sys.modules, plugin)


def test_diffusion_models_keep_their_own_scheduler() -> None:
    features.check_model(SimpleNamespace(diffusion_config=None))
    features.check_model(SimpleNamespace())
    with pytest.raises(versions.UnsupportedVllmError, match="diffusion"):
        features.check_model(SimpleNamespace(diffusion_config=object()))


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
            except LimitsError as error:
                return {"error": str(error), "status": error.status}
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
    assert set(KEYS) - {"lease_s"} <= set(answer)
    assert call(path=PATH + "/")[0] == 200


def test_each_refusal_has_its_status() -> None:
    call = Call()
    assert call("PUT", b'{"instance": "other", "max_num_seqs": 4}')[0] == 409
    assert call("PUT", b'{"owner": "me", "lease_s": 60, "max_num_seqs": 4}')[0] == 200
    assert call()[1]["owner"] == "me"
    status, answer = call("PUT", b'{"max_num_seqs": 5}')
    assert status == 423
    assert "controlled by me" in answer["error"]


def test_every_engine_is_asked_and_all_answers_are_told() -> None:
    """vLLM's own call tells the first engine's answer alone."""
    call = Call()
    engines = [Core(), Core()]

    async def ask(name: str, changes: Any, *, engine: int) -> dict[str, Any]:
        return await engines[engine].call_utility_async(name, changes)

    call.core.core_engines, call.core._call_utility_async = [0, 1], ask  # type: ignore[attr-defined]
    answer = call("PUT", b'{"max_num_seqs": 4}')[1]
    assert [core.limits.max_num_seqs for core in engines] == [4, 4]
    assert answer["engines"] == 2
    assert answer["instance"] == "+".join(core.limits.instance for core in engines)
    engines[1].limits.change({"max_num_seqs": 9}, 10)
    assert call()[1]["max_num_seqs"] == 9
    assert call()[1]["effect_delay_s"] is None
    body = json.dumps({"instance": answer["instance"], "max_num_seqs": 3}).encode()
    assert call("PUT", body)[0] == 200
    engines[1].limits = Limits(32, 2048)
    assert call("PUT", body)[0] == 409


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
    assert call(client=("::ffff:127.0.0.1", 4))[0] == 200
    assert call(client=("::ffff:10.1.2.3", 4))[0] == 403
    assert call(origin="http://page.example")[0] == 403
    for name in ("x-forwarded-for", "x-real-ip", "forwarded"):
        assert call(**{name: "127.0.0.1"})[0] == 403
    for host in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        assert call(host=host)[0] == 200
    for host in ("page.example:8000", "localhost.page.example", ""):
        assert call(host=host)[0] == 403
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

"""The cap helper: real processes, a fake NVML, real kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_support import PATIENCE_S, FakeVllm, attach, live, run, wait_for

from envs.errors import ConfigurationError, DeviceError
from envs.knobs import Knobs
from envs.live.cap_helper import protocol
from envs.live.devices.helped_nvml import HelpedNvml
from envs.live.errors import (
    DeviceBusyError,
    DeviceLostError,
    DeviceNotFoundError,
    DevicePermissionError,
    DeviceRangeError,
)
from envs.live.guard import ROOT

NOBODY = 65534
BECOME_NOBODY = f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
"""What is imported before may lie where that user cannot read."""

UUID = "GPU-00000000"


class Helper:
    """A helper as a process of its own, with a private folder of its own, as root's would be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = str(folder / "socket")
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
        command = [sys.executable, "-m", "envs.live.cap_helper", "--socket", self.socket]
        self.process = subprocess.Popen(
            [*command, *options],
            env=os.environ | {"PYTHONPATH": path, "PALS_RUN_DIR": str(self.folder / "root")},
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stderr is not None
        said = ""
        while "listening" not in said:
            line = self.process.stderr.readline()
            assert line, said
            said += line

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE_S)
            assert self.process.stderr is not None
            self.process.stderr.close()
            self.process = None

    def say(self, line: bytes) -> dict[str, Any]:
        """Sends a line on a connection of its own and returns the answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(PATIENCE_S)
            stream.connect(self.socket)
            stream.sendall(line)
            received = b""
            while not received.endswith(b"\n"):
                data = stream.recv(4096)
                assert data, received
                received += data
        told: dict[str, Any] = json.loads(received)
        return told


@pytest.fixture
def helper(fake_gpus: Any) -> Iterator[Helper]:
    folder = Path(tempfile.mkdtemp(prefix="pals-", dir="/tmp"))  # a socket's path must be short
    helper = Helper(folder)
    yield helper
    helper.end(signal.SIGTERM)
    shutil.rmtree(folder)


def controlled(helper: Helper, **settings: Any) -> HelpedNvml:
    """Returns a device of this process that holds a lease."""
    device = HelpedNvml(socket=helper.socket, **settings)
    device.open(None)
    device.take_control()
    return device


def test_caps_are_set_within_bounds_and_put_back(helper: Helper, fake_gpus: Any) -> None:
    fake_gpus.set({"limit": 350_000}, {"limit": 380_000})
    helper.start("--gpus", "0,1", "--floor-w", "150")
    device = HelpedNvml(socket=helper.socket, gpus=["0", "1"])
    device.open(None)
    assert (device.limits.cap_min_w, device.limits.cap_max_w) == (150.0, 350.0)
    assert device.cap_found_w == 350.0
    found = device.take_control()
    assert fake_gpus.limits_w == [350.0, 380.0]
    device.set_power_cap(200.0)
    assert fake_gpus.limits_w == [200.0, 200.0]
    assert device.read().cap_w == (200.0, 200.0)
    for watts in (140.0, 360.0, float("nan")):
        with pytest.raises(DeviceError, match=r"outside 150\.\.350 W|must be a number"):
            device.set_power_cap(watts)
    assert fake_gpus.limits_w == [200.0, 200.0]
    device.restore(found)
    assert fake_gpus.limits_w == [350.0, 380.0]
    device.restore(found)  # harmless
    device.close()


def test_a_ceiling_above_what_was_found_is_the_operators_word(
    helper: Helper, fake_gpus: Any
) -> None:
    fake_gpus.set({"limit": 250_000})
    helper.start("--ceiling-w", "300")
    device = controlled(helper)
    device.set_power_cap(300.0)
    with pytest.raises(DeviceRangeError, match=r"301 W is outside 100\.\.300 W"):
        device.set_power_cap(301.0)
    device.close()
    wait_for(lambda: fake_gpus.limits_w == [250.0])


HOLDER = """
import sys, time
from envs.live.devices.helped_nvml import HelpedNvml
device = HelpedNvml(socket=sys.argv[1])
device.open(None)
device.take_control()
device.set_power_cap(150.0)
print("holding", flush=True)
time.sleep(600)
"""


def holder(helper: Helper, **more: Any) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, helper.socket],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        **more,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def test_a_holder_that_is_killed_loses_its_cap_at_once(helper: Helper, fake_gpus: Any) -> None:
    helper.start("--lease-s", "600")  # longer than anything here takes
    process = holder(helper)
    assert fake_gpus.limits_w == [150.0]
    other = HelpedNvml(socket=helper.socket)
    other.open(None)
    with pytest.raises(DeviceBusyError, match=f"held by process {process.pid}"):
        other.take_control()
    process.kill()
    process.wait()
    wait_for(lambda: fake_gpus.limits_w == [400.0])
    other.take_control()
    other.close()


@pytest.mark.long
def test_a_holder_that_hangs_loses_its_cap_when_the_lease_lapses(
    helper: Helper, fake_gpus: Any
) -> None:
    helper.start("--lease-s", "2")
    process = holder(helper)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        time.sleep(1.0)
        assert fake_gpus.limits_w == [150.0]
        assert wait_for(lambda: fake_gpus.limits_w == [400.0]) < 4.0
    finally:
        process.kill()
        process.wait()


@pytest.mark.long
def test_a_lease_that_is_renewed_holds_and_one_that_lapsed_comes_back(
    helper: Helper, fake_gpus: Any
) -> None:
    helper.start("--lease-s", "2")
    device = controlled(helper)
    device.set_power_cap(180.0)
    for _ in range(4):
        time.sleep(0.8)
        device.renew()
        assert fake_gpus.limits_w == [180.0]
    wait_for(lambda: fake_gpus.limits_w == [400.0])
    device.renew()
    assert fake_gpus.limits_w == [180.0]
    device.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_helper_that_is_told_to_end_puts_everything_back(
    helper: Helper, fake_gpus: Any, number: signal.Signals
) -> None:
    helper.start()
    device = controlled(helper)
    device.set_power_cap(150.0)
    helper.end(number)
    assert fake_gpus.limits_w == [400.0]
    assert not Path(helper.socket).exists()
    device.close()


def test_a_helper_that_was_killed_puts_back_when_it_is_started_again(
    helper: Helper, fake_gpus: Any
) -> None:
    fake_gpus.set({"limit": 350_000})
    helper.start()
    device = controlled(helper)
    device.set_power_cap(150.0)
    helper.end(signal.SIGKILL)
    assert fake_gpus.limits_w == [150.0]
    helper.start()
    assert fake_gpus.limits_w == [350.0]
    device.renew()  # its controller goes on, within the bounds found
    assert fake_gpus.limits_w == [150.0]
    device.close()
    wait_for(lambda: fake_gpus.limits_w == [350.0])


def test_a_cap_that_others_set_is_respected(helper: Helper, fake_gpus: Any) -> None:
    helper.start()
    device = controlled(helper)
    found = {"lease": device._lease}
    device.set_power_cap(300.0)
    fake_gpus.change(0, limit=200_000)
    device.set_power_cap(350.0)
    assert fake_gpus.limits_w == [200.0]
    assert device.take_changes_by_others() == 1
    device.set_power_cap(150.0)
    device.restore(found)
    assert fake_gpus.limits_w == [200.0]
    device.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_other_users_are_turned_away(helper: Helper, fake_gpus: Any) -> None:
    helper.start("--user", "12345")
    os.chmod(helper.folder, 0o755)
    os.chmod(helper.socket, 0o666)
    line = json.dumps({"do": "cap", "gpus": [UUID], "watts": 150, "lease": "x"})
    code = (
        f"import os, socket, sys\n{BECOME_NOBODY}"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(sys.argv[2].encode() + b'\\n'); print(s.recv(4096).decode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, helper.socket, line],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["kind"] == "stranger"
    assert fake_gpus.limits_w == [400.0]


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_controller_without_rights_controls_through_the_helper(
    helper: Helper, fake_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPUs refuse every process that is not root's, as NVML does."""
    shared = Path(tempfile.mkdtemp(prefix="pals-", dir="/tmp"))
    shared.chmod(0o777)
    try:
        file = shared / "nvml.json"
        monkeypatch.setenv("FAKE_NVML_STATE", str(file))
        fake_gpus.module.write_state(file, gpus=[fake_gpus.module.gpu(0)], root="caller")
        for each in shared.iterdir():
            each.chmod(0o666)
        helper.folder.chmod(0o755)
        helper.start("--user", str(NOBODY))
        # Nobody may write here, the measurement of coverage neither.
        kept = {key: own for key, own in os.environ.items() if not key.startswith("COVERAGE_")}
        env = kept | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]]),
            "PALS_RUN_DIR": str(shared / "private"),
            "HOME": str(shared),
        }

        def run(device: str, read: str) -> str:
            code = (
                "import os, sys, pynvml; from envs.live.devices.nvml import Nvml\n"
                f"from envs.live.devices.helped_nvml import HelpedNvml\n{BECOME_NOBODY}"
                f"d = {device}; d.open(None); found = d.take_control()\n"
                f"d.set_power_cap(150.0); print({read}); d.restore(found); print({read})\n"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, helper.socket],
                env=env, cwd="/", capture_output=True, text=True,
            )  # fmt: skip
            return done.stdout + done.stderr

        assert "DevicePermissionError" in run("Nvml()", "d.read().cap_w")
        told = run("HelpedNvml(socket=sys.argv[1])", "d.read().cap_w")
        assert told == "(150.0,)\n(400.0,)\n"
    finally:
        shutil.rmtree(shared)


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"[]\n", b"{}\n", b"x" * 9000, b'{"do": "lock"}\n', b'{"do": ["cap"]}\n',
        b'{"do": "cap", "gpus": ["GPU-00000000"], "watts": 200}\n',
        b'{"do": "cap", "gpus": "GPU-00000000", "watts": 200, "lease": "x"}\n',
        b'{"do": "cap", "gpus": [], "watts": 200, "lease": "x"}\n',
        b'{"do": "cap", "gpus": ["GPU-00000000", "GPU-00000000"], "watts": 1, "lease": "x"}\n',
        b'{"do": "cap", "gpus": ["GPU-00000000"], "watts": "200", "lease": "x"}\n',
        b'{"do": "cap", "gpus": ["GPU-00000000"], "watts": true, "lease": "x"}\n',
        b'{"do": "cap", "gpus": ["GPU-00000000"], "watts": NaN, "lease": "x"}\n',
        b'{"do": "cap", "gpus": ["GPU-00000000"], "watts": 1e999, "lease": "x"}\n',
        b'{"do": "cap", "gpus": ["GPU-00000000"], "watts": 200, "lease": "../x"}\n',
        b'{"do": "cap", "gpus": ["GPU-00000000"], "watts": 99, "lease": "x"}\n',
        b'{"do": "cap", "gpus": ["GPU-00000007"], "watts": 200, "lease": "x"}\n',
        b'{"do": "restore", "lease": "x", "watts": 200}\n',
        b"[" * 4000 + b"\n", b"\xff\xfe\n",
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_changes_nothing(
    helper_of_all: Helper, fake_gpus: Any, line: bytes
) -> None:
    told = helper_of_all.say(line)
    assert told["ok"] is False
    assert told["kind"] in (protocol.BAD, protocol.RANGE)
    assert helper_of_all.say(b'{"do": "limits", "gpus": ["GPU-00000000"]}\n') == {
        "ok": True, "floor_w": 100.0, "ceiling_w": 400.0, "found_w": 400.0,
    }  # fmt: skip


@pytest.fixture(scope="module")
def helper_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helper]:
    """One helper for many lines, with GPUs of its own."""
    from live_support import FAKE_NVML

    folder = Path(tempfile.mkdtemp(prefix="pals-", dir="/tmp"))
    state = {"gpus": [], "root": True, "driver": True, "log": []}
    gpu = {
        "uuid": UUID, "name": "NVIDIA Fake 400W", "limit": 400_000, "default": 400_000,
        "min": 100_000, "max": 400_000, "max_clock": 1410, "lost": False, "mig": False,
    }  # fmt: skip
    (folder / "nvml.json").write_text(json.dumps(state | {"gpus": [gpu]}))
    with pytest.MonkeyPatch.context() as patch:
        path = [str(FAKE_NVML), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        patch.setenv("FAKE_NVML_STATE", str(folder / "nvml.json"))
        helper = Helper(folder)
        helper.start()
        yield helper
        helper.end(signal.SIGTERM)
        log = json.loads((folder / "nvml.json").read_text())["log"]
    shutil.rmtree(folder)
    assert log == []


def test_too_many_connections_are_turned_away(helper: Helper, fake_gpus: Any) -> None:
    helper.start()
    held = []
    for _ in range(40):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.connect(helper.socket)
        held.append(stream)
    time.sleep(0.5)
    for stream in held:
        stream.close()

    def answers() -> bool:
        try:
            return bool(helper.say(b'{"do": "limits", "gpus": ["GPU-00000000"]}\n')["ok"])
        except (OSError, AssertionError):
            return False

    wait_for(answers)


def test_a_controller_of_roots_and_the_helper_keep_off_each_other(
    helper: Helper, fake_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envs.live.locks import Locks

    helper.start()
    monkeypatch.setenv("PALS_RUN_DIR", str(helper.folder / "root"))
    device = controlled(helper)
    with pytest.raises(DeviceBusyError):
        Locks([UUID])
    device.close()
    wait_for(lambda: _is_free(UUID))


def _is_free(name: str) -> bool:
    from envs.live.locks import Locks

    try:
        Locks([name]).close()
    except DeviceBusyError:
        return False
    return True


def test_without_a_helper_it_is_named(fake_gpus: Any, tmp_path: Path) -> None:
    device = HelpedNvml(socket=str(tmp_path / "none"))
    device.open(None)
    with pytest.raises(DeviceNotFoundError, match=r"envs\.live\.cap_helper"):
        _ = device.limits
    device.close()
    with pytest.raises(ConfigurationError, match="lock_clocks"):
        HelpedNvml(lock_clocks=True)
    never = HelpedNvml(socket=str(tmp_path / "none"))
    with pytest.raises(DevicePermissionError, match="take_control"):
        never.set_power_cap(200.0)


def test_two_helpers_at_one_socket_are_refused(helper: Helper, fake_gpus: Any) -> None:
    helper.start()
    second = Helper(helper.folder)
    with pytest.raises(AssertionError, match="another helper listens"):
        second.start()
    assert second.process is not None
    assert second.process.wait() == 1


@pytest.mark.long
def test_a_live_server_is_controlled_through_the_helper(
    helper: Helper, fake_vllm: FakeVllm, fake_gpus: Any
) -> None:
    fake_gpus.set({"limit": 350_000})
    helper.start("--lease-s", "4")
    config = attach(fake_vllm, device=HelpedNvml(socket=helper.socket), batch_limit="off")
    with live(config) as server:
        assert server.facts["device_facts"]["helper"]["ceiling_w"] == 350.0
        server.reset(1)
        server.apply(Knobs(150.0, 8))
        for _ in range(14):  # 5.6 s, more than a lease
            row = server.advance(0.4)
        assert row.power_cap_w == 150.0
        helper.end(signal.SIGKILL)
        helper.start("--lease-s", "4")
        wait_for(lambda: server.advance(0.4).power_cap_w == 150.0)
    assert fake_gpus.limits_w == [350.0]


@pytest.mark.long
def test_a_helper_that_stays_away_ends_the_run_with_its_own_error(
    helper: Helper, fake_vllm: FakeVllm, fake_gpus: Any
) -> None:
    helper.start()
    with live(attach(fake_vllm, device=HelpedNvml(socket=helper.socket))) as server:
        server.reset(1)
        server.apply(Knobs(150.0, 2))
        server.advance(0.4)
        helper.end(signal.SIGKILL)
        with pytest.raises(DeviceLostError, match="the helper is gone"):
            run(server, 24.0)
    assert fake_vllm.limit()["max_num_seqs"] == 8  # the limit is back, whatever the cap does
    helper.start()
    assert fake_gpus.limits_w == [400.0]


def test_the_guard_and_the_helper_agree_when_a_controller_is_killed(
    helper: Helper, fake_vllm: FakeVllm, fake_gpus: Any
) -> None:
    code = (
        "import os, signal, sys\n"
        "from envs.live.config import VllmServerConfig\n"
        "from envs.live.devices.helped_nvml import HelpedNvml\n"
        "from envs.live.session import Session\n"
        "session = Session(VllmServerConfig(url=sys.argv[1], control=True, max_num_seqs=8,\n"
        "    device=HelpedNvml(socket=sys.argv[2])))\n"
        "session.take_control()\nsession._set_cap(150.0)\nsession._set_batch(2)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    helper.start()
    path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", code, fake_vllm.url, helper.socket],
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: fake_gpus.limits_w == [400.0])
    wait_for(lambda: fake_vllm.limit()["max_num_seqs"] == 8)

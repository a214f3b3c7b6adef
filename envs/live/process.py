"""Starts, watches and ends a vLLM server of our own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from envs.errors import ConfigurationError, ServerError
from envs.fields import Checked, Range
from envs.live.batch_limit import ARGUMENTS, PLUGIN_DIR
from envs.live.devices.processes import start_ticks
from envs.live.errors import ServerDiedError, ServerStartError
from envs.live.http_client import HttpClient
from envs.quantities import Seconds
from envs.safe_files import open_for_owner
from envs.user_paths import user_path

MODULE = "vllm.entrypoints.openai.api_server"
_TAIL = 15


@dataclass(kw_only=True)
class Launch(Checked):
    """How a server is started.

    Attributes:
        model: Folder or name of the model; ``None`` launches nothing.
        python: Interpreter of an environment with vLLM, or the folder of a virtual
            environment.
        port: Port to listen on, on the loopback interface; 0 takes a free one.
        arguments: Further arguments of vLLM, as on its command line.
        environment: Environment variables of the server.
        asynchronous: Asynchronous scheduling; ``None`` leaves it to vLLM.
        startup_timeout_s: Longest time until the server is ready.
        log: File for the server's output; ``None`` makes one in the temporary folder.
    """

    config_key: ClassVar[str] = "server.launch"

    model: str | None = None
    python: str = "python"
    port: Annotated[int, Range(least=0, most=65_535)] = 0
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    asynchronous: bool | None = None
    startup_timeout_s: Seconds = 600.0
    log: str | None = None

    @property
    def interpreter(self) -> str:
        """The Python interpreter.

        Raises:
            ConfigurationError: There is none at the place named.
        """
        path = user_path(self.python, "server.launch.python")
        if path.is_dir():
            path = path / "bin" / "python"
        if shutil.which(str(path)) is None:
            raise ConfigurationError(
                f"server.launch.python: there is no {path}, as file, environment or command;"
                " name the interpreter of an environment in which vLLM is installed"
            )
        # Not resolved: a virtual environment is told by the path of its interpreter.
        return str(path.absolute()) if os.sep in str(path) else str(path)


class VllmProcess:
    """A vLLM server that we started, with the batch-limit plug-in and without prefix caching.

    Args:
        launch: How to start it.
        settings: Arguments that follow from the server's configuration.
    """

    def __init__(self, launch: Launch, settings: list[str]) -> None:
        self.launch = launch
        self.port = launch.port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = Path(launch.log) if launch.log else _log_file(self.port)
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._start_ticks: int | None = None

    @property
    def command(self) -> list[str]:
        """The command line."""
        scheduling = {None: [], True: ["--async-scheduling"], False: ["--no-async-scheduling"]}
        return [
            self.launch.interpreter, "-m", MODULE,
            "--model", str(self.launch.model),
            "--host", "127.0.0.1", "--port", str(self.port),
            "--no-enable-prefix-caching",
            *self._settings, *scheduling[self.launch.asynchronous], *ARGUMENTS,
            *self.launch.arguments,
        ]  # fmt: skip

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def identity(self) -> dict[str, int | None]:
        """Process number and start, which together name the process for good."""
        return {"pid": self.pid, "start_ticks": self._start_ticks}

    def start(self) -> None:
        """Starts the server and waits until it is ready.

        Raises:
            ServerStartError: It ended, or was not ready in time.
        """
        path = [str(PLUGIN_DIR), *filter(None, [self.launch.environment.get("PYTHONPATH")])]
        environment = os.environ | self.launch.environment | {"PYTHONPATH": os.pathsep.join(path)}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        opened = open_for_owner(self.log, os.O_WRONLY | os.O_APPEND)  # vLLM logs its arguments
        with os.fdopen(opened, "ab") as log:
            try:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Not a session of its own: Linux schedules by sessions, and one whose threads
                    # poll with sched_yield, as vLLM's do, can keep our load generator waiting for
                    # seconds (seen on 6.18 with sched_autogroup_enabled).
                    process_group=0,
                    env=environment,
                )
            except OSError as error:
                raise ServerStartError(
                    f"cannot start {self.launch.interpreter}: {error.strerror}"
                ) from error
        self._start_ticks = start_ticks(self.pid)

    def wait_ready(self) -> None:
        """Waits until the server answers.

        Raises:
            ServerStartError: It ended, or was not ready in time.
        """
        client = HttpClient(self.url, {}, 5.0)
        deadline = time.monotonic() + self.launch.startup_timeout_s
        while time.monotonic() < deadline:
            if (code := self.exit_code) is not None:
                raise ServerStartError(f"the server ended with {code} while starting{self.tail()}")
            with contextlib.suppress(ServerError):
                if client.call("GET", "/health")[0] == 200:
                    return
            time.sleep(0.2)
        self.stop()
        raise ServerStartError(
            f"the server was not ready after {self.launch.startup_timeout_s:g} s "
            f"(server.launch.startup_timeout_s){self.tail()}"
        )

    @property
    def exit_code(self) -> int | None:
        """How the process ended; ``None`` while it runs."""
        return None if self._process is None else self._process.poll()

    def check(self) -> None:
        """Checks that the process still runs.

        Raises:
            ServerDiedError: It ended.
        """
        if (code := self.exit_code) is not None:
            raise ServerDiedError(f"the server process ended with {code}{self.tail()}")

    def tail(self) -> str:
        """Returns the last lines of the log, ready to follow a message."""
        try:
            with self.log.open(errors="replace") as lines:
                last = "".join(deque(lines, _TAIL))
        except OSError:
            return ""
        return f"; the end of {self.log}:\n{last}"

    def stop(self) -> None:
        """Ends the server and all its processes."""
        if self._process is not None:
            end_process(self.pid, self._start_ticks)
            self._process.wait()


def end_process(pid: int, started: int | None, patience_s: float = 20.0) -> None:
    """Ends a process group that we started: politely, and after a while for good.

    Args:
        pid: The group's first process.
        started: When it started; nothing is done if the number now names another process.
        patience_s: Time it gets to end by itself.
    """
    leader = start_ticks(pid)
    if leader not in (None, started):  # the number names another process by now
        return
    deadline = time.monotonic() + patience_s
    _signal_group(pid, signal.SIGTERM)
    while time.monotonic() < deadline and _group_lives(pid):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.05)
    _signal_group(pid, signal.SIGKILL)


def _group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _log_file(port: int) -> Path:
    return Path(tempfile.mkdtemp(prefix="pals-vllm-")) / f"server-{port}.log"

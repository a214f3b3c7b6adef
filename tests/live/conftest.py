"""Real vLLM servers on the CPU, with tiny random models; ``.ci/test-live`` builds what they need.

Few servers are started, because each takes the better part of a minute: one that most tests
attach to (OLMoE), and one that the environment launches itself (Qwen2-MoE, with an API key).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_help import MAX_NUM_SEQS, PYTHON, ROOT, launch

from envs.live.batch_limit import BatchLimit
from envs.live.http_client import HttpClient
from envs.live.process import VllmProcess


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny models, made by code."""
    if not PYTHON.exists():
        pytest.fail(f"there is no {PYTHON}; .ci/test-live builds it", pytrace=False)
    folder = tmp_path_factory.mktemp("models")
    for shape in ("olmoe", "qwen2moe"):
        script = str(ROOT / "examples" / "tiny_moe.py")
        subprocess.run([str(PYTHON), script, shape, str(folder / shape)], check=True)
    return folder


@pytest.fixture(scope="session")
def vllm(models: Path) -> Iterator[VllmProcess]:
    """A running vLLM server with the plug-in."""
    settings = ["--max-num-seqs", str(MAX_NUM_SEQS), "--served-model-name", "tiny"]
    process = VllmProcess(launch(models / "olmoe"), settings)
    began = time.monotonic()
    process.start()
    try:
        process.wait_ready()
        sys.stderr.write(f"\nvLLM was ready after {time.monotonic() - began:.0f} s\n")
        yield process
    finally:
        process.stop()


@pytest.fixture
def client(vllm: VllmProcess) -> HttpClient:
    """A connection to the running server."""
    return HttpClient(vllm.url, {}, 10.0)


@pytest.fixture
def limit(client: HttpClient) -> Iterator[BatchLimit]:
    """The running server's batch limit, as it was afterwards."""
    limit = BatchLimit(client)
    yield limit
    limit.release()
    state = limit.read()
    assert (state["max_num_seqs"], state["max_num_batched_tokens"]) == (MAX_NUM_SEQS, 2048)
    assert (state["mode"], state["owner"]) == ("drain", None)

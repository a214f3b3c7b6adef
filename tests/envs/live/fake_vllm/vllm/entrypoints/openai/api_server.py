"""A server with vLLM's routes that can be told to fail.

Its tokens are made by a child process called ``VLLM::Worker`` that burns CPU time for each of
them, so that a CPU quota on it slows the server as it slows vLLM. ``POST /fault`` sets faults:
``metrics_status``, ``metrics_body``, ``refuse`` (status of completions), ``stall`` (no tokens).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import time
from pathlib import Path

from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parents[7] / "envs" / "live" / "vllm_plugin"))
from pals_batch_limit.lease import LimitsError
from pals_batch_limit.limits import Limits, check_body

WORKER = """
import sys, time
cost = float(sys.argv[1])
for line in sys.stdin.buffer:
    end = time.thread_time() + cost * (1 + 0.05 * int(line))
    while time.thread_time() < end:
        pass
    sys.stdout.buffer.write(b"x")
    sys.stdout.buffer.flush()
"""
BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, float("inf"))


class Engine:
    def __init__(self, seqs: int, cost_s: float) -> None:
        self.limits = Limits(seqs, 2048)
        self.waiting: list[asyncio.Event] = []
        self.running: list[asyncio.Event] = []
        self.counters = {"generation": 0, "prompt": 0, "success": 0}
        self.samples: dict[str, list[float]] = {
            "time_to_first_token_seconds": [],
            "request_time_per_output_token_seconds": [],
            "e2e_request_latency_seconds": [],
            "request_prompt_tokens": [],
        }
        self.faults: dict[str, object] = {}
        self.started = time.time()
        self.worker = subprocess.Popen(
            ["VLLM::Worker", "-c", WORKER, str(cost_s)],
            executable=sys.executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    async def steps(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self.waiting and len(self.running) < self.limits.max_num_seqs:
                self.running.append(self.waiting.pop(0))
            if not self.running or self.faults.get("stall"):
                await asyncio.sleep(0.002)
                continue
            count = len(self.running)
            self.worker.stdin.write(f"{count}\n".encode())
            self.worker.stdin.flush()
            answer = await loop.run_in_executor(None, self.worker.stdout.read, 1)
            if not answer:
                sys.stderr.write("worker died\n")
                sys.exit(3)
            for request in list(self.running):
                request.set()

    def state(self) -> dict[str, object]:
        inside = len(self.running)
        self.limits.observe(inside)
        state = self.limits.state(inside, len(self.waiting))
        return state | {"scheduler": "FakeScheduler", "vllm": "0.32.0"}

    def metrics(self) -> str:
        lines = [
            f"vllm:num_requests_running{{}} {len(self.running)}",
            f"vllm:num_requests_waiting{{}} {len(self.waiting)}",
            f"vllm:kv_cache_usage_perc{{}} {len(self.running) / self.limits.ceiling_num_seqs}",
            f"vllm:generation_tokens_total{{}} {self.counters['generation']}",
            f"vllm:prompt_tokens_total{{}} {self.counters['prompt']}",
            f'vllm:request_success_total{{finished_reason="length"}} {self.counters["success"]}',
            f"process_start_time_seconds {self.started}",
            'vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1.0',
        ]
        for name, samples in self.samples.items():
            for bound in BUCKETS:
                count = sum(sample <= bound for sample in samples)
                label = "+Inf" if bound == float("inf") else bound
                lines.append(f'vllm:{name}_bucket{{le="{label}"}} {count}')
            lines.append(f"vllm:{name}_sum{{}} {sum(samples)}")
            lines.append(f"vllm:{name}_count{{}} {len(samples)}")
        return "\n".join(lines) + "\n"


class Routes:
    nested = False

    def __init__(self, engine: Engine, context: int, key: str | None) -> None:
        self.engine, self.context, self.key = engine, context, key

    def _authorised(self, request: web.Request) -> bool:
        return not self.key or request.headers.get("Authorization") == f"Bearer {self.key}"

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(status=int(self.engine.faults.get("health", 200)))

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.32.0"})

    async def models(self, request: web.Request) -> web.Response:
        if not self._authorised(request):
            return web.json_response({"error": "Unauthorized"}, status=401)
        return web.json_response({"data": [{"id": "fake"}]})

    async def metrics(self, request: web.Request) -> web.Response:
        faults = self.engine.faults
        text = str(faults.get("metrics_body") or self.engine.metrics())
        return web.Response(status=int(faults.get("metrics_status", 200)), text=text)

    async def limits(self, request: web.Request) -> web.Response:
        if request.method == "PUT":
            try:
                changes = check_body(await request.json())
                self.engine.limits.change(changes, len(self.engine.running))
            except ValueError as error:
                status = error.status if isinstance(error, LimitsError) else 422
                return web.json_response({"error": str(error)}, status=status)
        return web.json_response(self.engine.state())

    async def runtime_config(self, request: web.Request) -> web.Response:
        """vLLM's own route for the batch limit, as its pull request 54816 proposes it."""
        if not self._authorised(request):
            return web.json_response({"error": "Unauthorized"}, status=401)
        limits = self.engine.limits
        if request.method == "PATCH":
            if self.engine.faults.get("deaf"):
                return web.json_response({})
            wanted = (await request.json()).get("max_num_running_seqs")
            if not isinstance(wanted, int) or not 1 <= wanted <= limits.ceiling_num_seqs:
                return web.json_response(
                    {"error": "max_num_running_seqs: out of range"}, status=400
                )
            limits.change({"max_num_seqs": wanted}, len(self.engine.running))
        told = {
            "max_num_seqs": limits.ceiling_num_seqs,
            "max_num_running_seqs": limits.max_num_seqs,
        }
        return web.json_response({"scheduler": told} if self.nested else told)

    async def fault(self, request: web.Request) -> web.Response:
        self.engine.faults = await request.json()
        return web.Response()

    async def completions(self, request: web.Request) -> web.StreamResponse:
        if not self._authorised(request):
            return web.json_response({"error": "Unauthorized"}, status=401)
        if status := self.engine.faults.get("refuse"):
            return web.json_response({"error": "refused"}, status=int(status))
        body = await request.json()
        prompt, wanted = len(body["prompt"]), body["max_tokens"]
        assert "seed" not in body
        assert body["ignore_eos"]
        if prompt + wanted > self.context:
            text = f"maximum context length is {self.context} tokens"
            return web.json_response({"error": {"message": text}}, status=400)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await self._generate(answer, prompt, wanted)
        return answer

    async def _generate(self, answer: web.StreamResponse, prompt: int, wanted: int) -> None:
        engine, tick = self.engine, asyncio.Event()
        arrived = first = time.monotonic()
        engine.waiting.append(tick)
        try:
            for index in range(wanted):
                await tick.wait()
                tick.clear()
                engine.counters["generation"] += 1
                if index == 0:
                    first = time.monotonic()
                    engine.counters["prompt"] += prompt
                    engine.samples["time_to_first_token_seconds"].append(first - arrived)
                    engine.samples["request_prompt_tokens"].append(prompt)
                piece: dict[str, object] = {
                    "choices": [{"text": "x"}],
                    "usage": {"prompt_tokens": prompt, "completion_tokens": index + 1},
                    "padding": "x" * int(str(engine.faults.get("padding", 0))),
                }
                await answer.write(f"data: {json.dumps(piece)}\n\n".encode())
            usage = {"choices": [], "usage": {"completion_tokens": wanted}}
            await answer.write(f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n".encode())
            now = time.monotonic()
            engine.counters["success"] += 1
            engine.samples["e2e_request_latency_seconds"].append(now - arrived)
            if wanted > 1:
                tpot = (now - first) / (wanted - 1)
                engine.samples["request_time_per_output_token_seconds"].append(tpot)
        finally:
            for queue in (engine.waiting, engine.running):
                if tick in queue:
                    queue.remove(tick)


async def serve(options: argparse.Namespace) -> None:
    engine = Engine(options.max_num_seqs, options.token_cost)
    routes = Routes(engine, options.max_model_len, options.api_key)
    app = web.Application(client_max_size=2**24)
    app.router.add_get("/health", routes.health)
    app.router.add_get("/version", routes.version)
    app.router.add_get("/v1/models", routes.models)
    app.router.add_get("/metrics", routes.metrics)
    app.router.add_post("/v1/completions", routes.completions)
    app.router.add_post("/fault", routes.fault)
    if not options.no_plugin:
        app.router.add_get("/pals/batch_limit", routes.limits)
        app.router.add_put("/pals/batch_limit", routes.limits)
    if options.runtime_config:
        routes.nested = options.runtime_config == "nested"
        app.router.add_get("/v1/runtime_config", routes.runtime_config)
        app.router.add_patch("/v1/runtime_config", routes.runtime_config)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, options.host, options.port).start()
    sys.stdout.write("fake vLLM is ready\n")
    await engine.steps()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-num-seqs", type=int, default=8)
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--token-cost", type=float, default=0.002)
    parser.add_argument("--api-key")
    parser.add_argument("--runtime-config", choices=("flat", "nested"))
    parser.add_argument("--no-plugin", action="store_true")
    parser.add_argument("--fail-to-start", action="store_true")
    options, _ = parser.parse_known_args()
    if options.fail_to_start:
        sys.exit("fake vLLM cannot start: no such model")
    logging.disable(logging.CRITICAL)  # broken connections are the tests' own doing
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()

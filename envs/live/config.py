"""Configuration of a live server (``server=vllm``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from envs.errors import ConfigurationError
from envs.fields import Checked, OneOf, Part, Range
from envs.live.process import Launch
from envs.quantities import (
    Batch,
    Count,
    GPUs,
    NotNegative,
    Positive,
    Seconds,
    TokensOrNone,
    Watts,
    WattsOrNone,
)

ON_FAILURE = ("fail", "restart")
BATCH_LIMIT = ("drain", "preempt", "off")
DEFAULT_MAX_NUM_SEQS = 64
"""Batch limit of a server that we launch, or that does not tell its own, if none is named."""


@dataclass(kw_only=True)
class VllmServerConfig(Checked):
    """A vLLM server to attach to (``url``) or to start (``launch.model``).

    Attributes:
        url: Address of a running server, such as ``http://127.0.0.1:8000``.
        launch: How to start one, when ``url`` is not given.
        model: Name of the model at the server; ``None`` asks the server.
        api_key_env: Environment variable with the server's API key; its value is never
            recorded.
        server_pid: Process of a running server's API server, for ``device=throttled_cpu``.
        device: What sets caps and reads power.
        control: Whether knobs are set; otherwise decisions are made and logged only. ``None``:
            those of a server that we launch, and nobody else's.
        send_load: Whether the workload is sent; otherwise the server's own users are watched.
            ``None``: to a server that we launch, and to nobody else's.
        batch_limit: How a lowered batch limit takes hold: ``drain`` lets running requests
            finish, ``preempt`` sends the newest back to the queue, ``off`` leaves the limit
            alone (a server without the plug-in).
        max_num_seqs: Highest batch limit; ``None`` takes the server's own. A launched server is
            started with it, with 64 if it is ``None``.
        tensor_parallel: GPUs that share each layer; a launched server is started with it.
        expert_parallel: Ranks that hold whole experts; 1 splits every expert.
        data_parallel: Replicas, each with its own batch.
        cap_floor_w: No cap below this is ever set; ``None`` takes the device's lowest.
        cap_ceiling_w: No cap above this is ever set; ``None`` takes the cap found on the device,
            which may be what a breaker or a rack allows.
        max_num_seqs_ceiling: No batch limit above this is ever set; ``None`` takes the limit
            found on the server.
        power_caps_w: Caps that controllers choose from; ``None`` takes those of the GPU type
            within the device's limits, or six even steps.
        capacity_tok_s: Output tokens per second of the Baseline strategy at saturation.
        rated_power_w: Power of all GPUs in that state; ``None``: all at their highest cap.
        profile_path: ``profile.json`` to take both from when they are not given; the
            configuration files take what ``profile.path`` names.
        system_alpha: Node power per watt of GPU power (arXiv:2605.21427 §3.1).
        system_beta_w: Node power without GPUs, in watts.
        on_failure: ``fail`` ends the run with an error; ``restart`` starts a server of ours
            again and waits for anybody else's, and records it.
        recovery_timeout_s: Longest time to wait for a server to come back.
        call_timeout_s: Longest time for one short call (metrics, batch limit).
        metrics_attempts: Readings of the metrics that may fail in a row before the server
            counts as failed.
        stall_timeout_s: Requests in flight this long without any token of any request mean
            that the engine hangs.
        refused_limit: Requests refused in one interval before the server counts as failed.
        max_client_lag_s: Longest delay of our own sending before the load counts as not kept.
        max_in_flight: Our requests that may be open at once.
        first_token_id: Prompts are drawn from token ids from here ...
        last_token_id: ... to here.
        sample_period_s: Time between two readings of the device.
        drain_timeout_s: Longest time that reset waits for a launched server to be empty.
    """

    config_key: ClassVar[str] = "server"
    is_simulated: ClassVar[bool] = False

    url: str | None = None
    launch: Launch = field(default_factory=Launch)
    model: str | None = None
    api_key_env: str | None = "VLLM_API_KEY"
    server_pid: Annotated[int, Range(least=1, most=2**31)] | None = None
    device: Annotated[Any, Part("device")] = None
    control: bool | None = None
    send_load: bool | None = None
    batch_limit: Annotated[str, OneOf(*BATCH_LIMIT)] = "drain"
    max_num_seqs: Batch | None = None
    tensor_parallel: GPUs = 1
    expert_parallel: GPUs = 1
    data_parallel: GPUs = 1
    cap_floor_w: Watts | None = None
    cap_ceiling_w: Watts | None = None
    max_num_seqs_ceiling: Batch | None = None
    power_caps_w: list[Watts] | None = None
    capacity_tok_s: Positive | None = None
    rated_power_w: Watts | None = None
    profile_path: str | None = None
    system_alpha: NotNegative = 1.05
    system_beta_w: WattsOrNone = 345.0
    on_failure: Annotated[str, OneOf(*ON_FAILURE)] = "fail"
    recovery_timeout_s: Seconds = 600.0
    call_timeout_s: Seconds = 2.0
    metrics_attempts: Count = 3
    stall_timeout_s: Seconds = 30.0
    refused_limit: Count = 5
    max_client_lag_s: Seconds = 2.0
    max_in_flight: Batch = 1024
    first_token_id: TokensOrNone = 10
    last_token_id: TokensOrNone = 999
    sample_period_s: Seconds = 0.05
    drain_timeout_s: Seconds = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.url and self.launch.model:
            raise ConfigurationError(
                "server.url, server.launch.model: attach to a server or launch one, not both"
            )
        self.require(
            self.first_token_id <= self.last_token_id,
            "first_token_id", "be at most server.last_token_id",
        )  # fmt: skip
        self.require(self.power_caps_w != [], "power_caps_w", "name at least one cap, or be null")

    @property
    def sets_knobs(self) -> bool:
        """Whether knobs are set."""
        return bool(self.launch.model) if self.control is None else self.control

    @property
    def sends_load(self) -> bool:
        """Whether the workload is sent."""
        return bool(self.launch.model) if self.send_load is None else self.send_load

    @property
    def intent(self) -> str:
        """What is going to be done to the server, and which key changes it, in one line."""
        load = (
            "the workload is sent" if self.sends_load
            else "its users' requests are watched, none are sent (server.send_load=true sends the "
            "workload)"
        )  # fmt: skip
        knobs = (
            "power cap and batch limit are set" if self.sets_knobs and self.batch_limit != "off"
            else "the power cap is set" if self.sets_knobs
            else "no knob is set (server.control=true sets power cap and batch limit)"
        )  # fmt: skip
        return f"{self.url or 'launched server'}: {knobs}; {load}"

    @property
    def vllm_arguments(self) -> list[str]:
        """Arguments of vLLM that follow from this configuration."""
        arguments = [
            "--max-num-seqs", str(self.max_num_seqs or DEFAULT_MAX_NUM_SEQS),
            "--tensor-parallel-size", str(self.tensor_parallel),
            "--data-parallel-size", str(self.data_parallel),
        ]  # fmt: skip
        if self.expert_parallel > 1:
            arguments.append("--enable-expert-parallel")
        if self.model is not None:
            arguments += ["--served-model-name", self.model]
        return arguments

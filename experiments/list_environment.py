"""Describes the environment as Markdown: ``python -m experiments.list_environment``."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium

from envs import EPISODE_STEPS, catalog, wrappers
from envs.knobs import Knobs
from envs.objectives.conditions import Conditions
from envs.observations import Observation, Scale
from envs.rendering import RENDER_FPS
from envs.rewards import Reward
from envs.scenario import CHOICES, Scenario
from envs.serving import ServingEnv
from envs.suite_ids import environment_id, suite_parts
from envs.telemetry import Telemetry
from experiments.reporting.docstrings import attributes_of, summary_line, unit_of
from experiments.reporting.markdown import markdown_table

_INTRODUCTION = """\
# The environment

Made by `python -m experiments.list_environment > docs/environment.md` from the code.

One LLM server, one decision every control interval (`interval_s`, 0.5 s). An action sets the knobs,
the interval passes, and the observation says what happened and what is demanded next.

```python
import gymnasium

env = gymnasium.make("pals_gym:pals/Simulated-v0", model="mixtral_8x7b", gpu="a100_sxm4_80gb")
observation, info = env.reset(seed=1)
observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
```

Keyword arguments are the parts of a `Scenario`, each a name in `conf/<group>`, a mapping
(`workload={{"base": "bursty", "load": 0.6}}`) or a built object: {parts}.
`gymnasium.make_vec` makes many servers that one compiled call steps; there each of `model`, `gpu`,
`workload`, `objective`, `server` may be a list. Levels and spaces below are those of the default
server: {example}."""

_OBSERVATION = """\
## Observation

A `Box` of {count} float32 entries from 0 to {linear:g} (linear scale) or {log:g} (logarithmic),
fixed when the environment is made: nothing is normalised by what was seen. Values beyond the range
are clipped. `env.unwrapped.context.layout.decode(observation)` gives all entries by name in SI
units, `layout.index("power_w")` the place of one. What is demanded of the server (target, budget,
SLO) is that of the coming interval; where there is no budget or SLO, the entry is at its upper
bound and decodes as infinity; no target is 0. On the logarithmic scale *x* is
log(1 + *x*/*a*) / log(1 + *b*/*a*)."""

_ACTIONS = """\
## Actions

The knobs are

{knobs}

`action=` chooses how actions encode them; `action={{"base": "grid", "sm_clock": True}}` makes the
clock a knob. Caps of the grid are the GPU's, batch limits those of arXiv:2605.21427: {caps} W and
{batches}. An action outside its space is an `ActionError`, never clipped;
`continuous` alone is cut to its range, which Gaussian policies leave.
`env.unwrapped.action_masks()` marks the actions within the power budget."""

_REWARD = """\
## Reward

The sum of named terms, each times its weight; `info["rewards"]` has each weighted term. `reward=`
chooses one of these, or a mapping with other weights."""

_INFO = """\
## info

| key | what |
|---|---|
{rows}

`reset` gives `telemetry` and `conditions` alone. What `info` holds is made at the first look."""

_END = """\
## End of an episode

Episodes never terminate: time runs out, and `truncated` is set after `max_episode_steps` ({steps:,}
steps, {seconds:g} s; `gymnasium.make(..., max_episode_steps=N)`). Bootstrap from the last
observation, as for any time limit. A live server that dies raises a `ServerError`; there is no
stale or made-up observation.

`reset(seed=s)` fixes every random draw: the same seed and actions give the same episode, bit for
bit. `env.unwrapped.clone()` copies a simulated environment in the middle of an episode."""

_AROUND = """\
## Rendering and wrappers

`render_mode="rgb_array"` gives frames of the last minute (480 by 640 pixels, {fps} a second: ten
times as fast as life), so that `gymnasium.wrappers.RecordVideo` works (with `moviepy`); `"human"`
opens a window, or writes a line a step where there is no display. Both need `pals-gym[plot]`.
`pals/Cluster-v0` has frames with its nodes side by side.

| wrapper | what it does |
|---|---|
{rows}"""

_IDS = """\
## Ids

The scenarios of the [standing comparison](results.md) have ids of their own; each of their parts
can be changed by keyword.

{table}"""

_INFO_ROWS = {
    "telemetry": "what was observed over the interval: a `Telemetry`, see below",
    "conditions": "what was demanded in it: `Conditions`, see below",
    "knobs": "the `Knobs` that the action asked for",
    "rewards": "each weighted term of the reward, by name",
    "cost": "the constraint signal: 1 where QoS was violated by `reward.qos_definition`, else 0",
    "throughput_tok_s": "output tokens/s over the QoS window",
    "violation_backlog": "1 where throughput is below the target while requests wait",
    "violation_plain": "1 where throughput is below the target",
}
_UNITS = {
    "running": "requests",
    "waiting": "requests",
    "max_num_seqs": "requests",
    "preemptions": "requests",
    "arrivals": "requests",
    "finished": "requests",
    "rejected": "requests",
    "slo_missed": "requests",
    "slo_overdue": "requests",
    "kv_cache_usage": "fraction",
    "cap_binding": "fraction",
    "prefix_cache_queries": "tokens",
    "prefix_cache_hits": "tokens",
}


def page() -> str:
    """Returns the description as a Markdown page."""
    env = gymnasium.make("pals/Simulated-v0").unwrapped
    assert isinstance(env, ServingEnv)
    try:
        return "\n\n".join(_parts(env)) + "\n"
    finally:
        env.close()


def _parts(env: ServingEnv) -> Iterator[str]:
    context = env.context
    example = f"{Scenario.model} on {context.num_gpus} {Scenario.gpu}"
    yield _INTRODUCTION.format(parts=", ".join(f"`{name}`" for name in CHOICES), example=example)
    yield from _observation(env)
    yield from _actions(env)
    yield from _rewards()
    env.reset(seed=0)
    info = env.step(env.action_space.sample())[4]
    yield _INFO.format(rows="\n".join(f"| `{key}` | {_INFO_ROWS[key]} |" for key in info))
    yield "### Telemetry\n\n" + _fields(Telemetry)
    yield "### Conditions\n\n" + _fields(Conditions)
    yield _END.format(steps=EPISODE_STEPS, seconds=EPISODE_STEPS * context.interval_s)
    yield _AROUND.format(fps=RENDER_FPS, rows="\n".join(_wrappers()))
    yield _ids()


def _observation(env: ServingEnv) -> Iterator[str]:
    layout = env.context.layout
    meanings = attributes_of(Observation)
    high = layout.decode(layout.high)
    units = _scale_names(env)
    rows = []
    for index, name in enumerate(layout.names):
        scale = layout.scales[name]
        unit = units.get(scale.unit)
        top = f"{layout.high[index]:g} x {unit}" if unit else f"{getattr(high, name):,.4g}"
        if scale.logarithmic and scale.unbounded:
            top = f"{math.expm1(layout.high[index] / layout.log_factor[index]) * scale.unit:,.4g}"
        if _unit(name) == "fraction":
            top = "1"
        spread = f"0 … {top}" + (", or none" if scale.unbounded else "")
        cells = [str(index), f"`{name}`", _unit(name), spread, _scale(scale, unit)]
        rows.append([*cells, meanings[name]])
    head = ["", "entry", "unit", "range", "scale", "meaning"]
    space = {"linear": float(layout.high.max()), "log": float(layout.high.min())}
    yield _OBSERVATION.format(count=len(layout.names), **space)
    yield markdown_table(head, rows, "r")


def _scale_names(env: ServingEnv) -> dict[float, str]:
    """Returns what the scales of this server are, in words, by their value."""
    context = env.context
    gpus_w = context.limits.power_cap_max_w * context.num_gpus
    alpha, beta_w = context.system_power
    return {
        context.capacity_tok_s: "capacity",
        context.limits.power_cap_max_w: "highest cap",
        gpus_w: "highest cap of all GPUs",
        alpha * gpus_w + beta_w: "highest power of the node",
        float(context.limits.max_num_seqs): "batch limit of the server",
        context.limits.sm_clock_max_mhz: "highest clock",
    }


def _scale(scale: Scale, unit: str | None) -> str:
    if scale.logarithmic:
        return f"logarithmic, *a* = {scale.unit:g}, *b* = {scale.top:g}"
    return f"1 is the {unit}" if unit else "as it is"


def _unit(name: str) -> str:
    for word, unit in _UNITS.items():
        if name.endswith(word):
            return unit
    return unit_of(name)


def _actions(env: ServingEnv) -> Iterator[str]:
    knobs = "\n".join(f"- `{name}`: {text}" for name, text in attributes_of(Knobs).items())
    grid = env.context.grid
    yield _ACTIONS.format(
        knobs=knobs,
        caps=", ".join(f"{cap:g}" for cap in grid.power_caps_w),
        batches=", ".join(str(limit) for limit in grid.max_num_seqs),
    )
    rows = []
    for name in catalog.names("action"):
        encoding = catalog.build("action", name)
        encoding.bind(env.context.limits, list(grid.power_caps_w))
        rows.append([f"`{name}`", f"`{encoding.space}`", summary_line(type(encoding))])
    yield markdown_table(["action", "space", "meaning"], rows)


def _rewards() -> Iterator[str]:
    yield _REWARD
    for choice in catalog.names("reward"):
        reward: Reward = catalog.build("reward", choice)
        rows = [
            [f"`{name}`", f"{term.weight:g}", summary_line(type(term))]
            for name, term in reward.terms.items()
        ]
        table = markdown_table(["term", "weight", "meaning before weighting"], rows)
        yield f"### reward={choice}\n\nViolations by `{reward.qos_definition}`.\n\n{table}"


def _fields(cls: type[Any]) -> str:
    meanings = attributes_of(cls)
    rows = [[f"`{name}`", _unit(name), meanings[name]] for name in cls._fields]
    return markdown_table(["field", "unit", "meaning"], rows)


def _wrappers() -> Iterator[str]:
    for cls in (wrappers.UnitObservation, wrappers.StackKnobs, wrappers.FlatCost):
        yield f"| `pals_gym.{cls.__name__}` | {summary_line(cls)} |"


def _ids() -> str:
    named = {
        "pals/Simulated-v0": "a simulated server",
        "pals/VLLM-v0": "a live vLLM server",
        "pals/Cluster-v0": "several servers under one power budget, for a central agent",
    }
    rows = [[f"`{name}`", what] for name, what in named.items()]
    for name, parts in suite_parts().items():
        what = "; ".join(f"{key} {_told(value)}" for key, value in parts.items())
        rows.append([f"`{environment_id(name)}`", what])
    return _IDS.format(table=markdown_table(["id", "what"], rows))


def _told(value: Any) -> str:
    """Returns a choice in words: its name, and what it changes."""
    if not isinstance(value, Mapping):
        return str(value)
    changes = [
        f"{key} {_told(item)}" for key, item in value.items() if key not in ("base", "_target_")
    ]
    return ", ".join(filter(None, [str(value.get("base", "")), *changes])).lstrip(", ")


def main() -> None:
    """Prints the page."""
    sys.stdout.write(page())


if __name__ == "__main__":
    main()

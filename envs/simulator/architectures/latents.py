"""Models that cache a latent: DeepSeek-V2 and V3, and those that follow them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.simulator.architectures.family import Family
from envs.simulator.architectures.feeds import experts
from envs.simulator.architectures.keys import Keys, whole
from envs.simulator.architectures.layers import Experts
from envs.simulator.architectures.mixers import indexed, latent
from envs.simulator.architectures.sparse import ROUTED


def _two_in_one(values: Mapping[str, Any]) -> dict[str, Any]:
    """A layer of LongCat has attention and a dense part twice, and experts once."""
    layers: Any = values.get("num_layers", values.get("num_hidden_layers"))
    return {**values, "num_hidden_layers": 2 * layers if whole(layers) else layers}


def _beside_dense(keys: Keys, layer: int) -> Experts | None:
    """Experts beside the two dense parts; some choices of a token go to experts that do nothing."""
    if layer % 2:
        return None
    count = keys.whole("num_experts")
    nothing = keys.whole("zero_expert_num", 0, least=0)
    chosen = keys.whole("num_experts_per_tok")
    return Experts(
        count=count,
        top_k=max(1, min(count, round(chosen * count / (count + nothing)))),
        width=keys.whole("moe_intermediate_size"),
        shared=2 * keys.whole("intermediate_size"),
    )


LATENT = (
    Family(
        types=("deepseek_v2", "deepseek_v3", "kimi_k2", "glm4_moe_lite", "axk1", "mistral4"),
        classes=(
            "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "KimiK2ForCausalLM",
            "Glm4MoeLiteForCausalLM", "AXK1ForCausalLM", "Mistral4ForCausalLM",
        ),
        mixer=latent,
        feed=experts,
        renames=ROUTED,
    ),
    Family(
        types=("deepseek_v32", "glm_moe_dsa"),
        classes=("DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM"),
        mixer=indexed,
        feed=experts,
        renames=ROUTED,
    ),
    Family(
        types=("longcat_flash",),
        classes=("LongcatFlashForCausalLM",),
        mixer=latent,
        feed=_beside_dense,
        prepare=_two_in_one,
        renames={
            **ROUTED,
            "ffn_hidden_size": "intermediate_size",
            "expert_ffn_hidden_size": "moe_intermediate_size",
            "moe_topk": "num_experts_per_tok",
        },
        understands=("zero_expert",),
    ),
    Family(
        types=("minicpm3", "youtu"),
        classes=("MiniCPM3ForCausalLM", "YoutuForCausalLM"),
        mixer=latent,
        tied=True,
    ),
)  # fmt: skip
"""Models with multi-head latent attention."""

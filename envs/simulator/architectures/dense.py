"""Dense decoders whose keys are Llama's, and what each does otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.simulator.architectures.family import Family
from envs.simulator.architectures.feeds import plain
from envs.simulator.architectures.keys import whole
from envs.simulator.architectures.mixers import cross_or_self, square_attention


def _scaled_already(values: Mapping[str, Any]) -> dict[str, Any]:
    """Gemma states the context that rotary scaling leads to."""
    return {key: value for key, value in values.items() if key != "rope_scaling"}


def _half_width(values: Mapping[str, Any]) -> dict[str, Any]:
    """The first Qwen states the width of gate and projection together."""
    width = values.get("intermediate_size")
    halved = {"intermediate_size": width // 2} if whole(width) else {}
    return {**values, **halved}


_EVERY_SECOND = {"sliding_window_pattern": 2}
_EVERY_FOURTH = {"sliding_window_pattern": 4}

DENSE = (
    Family(
        types=(
            "llama", "smollm", "internlm3", "granite", "seed_oss", "smollm3", "ernie4_5", "exaone",
            "hunyuan_v1_dense", "cwm", "aquila", "yi", "xverse", "hyperclovax",
        ),
        classes=(
            "LlamaForCausalLM", "LLaMAForCausalLM", "InternLM3ForCausalLM", "GraniteForCausalLM",
            "SeedOssForCausalLM", "SmolLM3ForCausalLM", "Ernie4_5ForCausalLM",
            "ExaoneForCausalLM", "HunYuanDenseV1ForCausalLM",
            "CwmForCausalLM", "AquilaModel", "AquilaForCausalLM", "YiForCausalLM",
            "XverseForCausalLM", "HyperCLOVAXForCausalLM",
        ),
        renames={"num_layers": "num_hidden_layers"},
    ),
    Family(
        types=("helium",),
        classes=("HeliumForCausalLM",),
        mixer=square_attention,
    ),
    Family(
        types=("solar", "orion", "decilm_llama", "internlm", "internlm2", "baichuan", "minicpm"),
        classes=(
            "SolarForCausalLM", "OrionForCausalLM", "InternLMForCausalLM", "InternLM2ForCausalLM",
            "BaichuanForCausalLM", "BaiChuanForCausalLM", "MiniCPMForCausalLM",
        ),
    ),
    Family(
        types=("mistral", "ministral", "ministral3"),
        classes=("MistralForCausalLM", "MinistralForCausalLM", "Ministral3ForCausalLM"),
    ),
    Family(
        types=("qwen2", "qwen3", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text",
               "qwen2_5_omni_text"),
        classes=("Qwen2ForCausalLM", "Qwen3ForCausalLM"),
        defaults={"use_sliding_window": False},
    ),
    Family(
        types=("qwen",),
        classes=("QWenLMHeadModel",),
        prepare=_half_width,
    ),
    Family(
        types=("gemma",),
        classes=("GemmaForCausalLM",),
        tied=True,
        prepare=_scaled_already,
    ),
    Family(
        types=("gemma2", "vaultgemma"),
        classes=("Gemma2ForCausalLM", "VaultGemmaForCausalLM"),
        renames={"sliding_window_size": "sliding_window"},
        defaults=_EVERY_SECOND,
        tied=True,
        prepare=_scaled_already,
    ),
    Family(
        types=("gemma3_text",),
        classes=("Gemma3ForCausalLM",),
        renames={"_sliding_window_pattern": "sliding_window_pattern"},
        defaults={"sliding_window_pattern": 6},
        tied=True,
        prepare=_scaled_already,
    ),
    Family(
        types=("phi3",),
        classes=("Phi3ForCausalLM",),
    ),
    Family(
        types=("phi3small",),
        classes=("Phi3SmallForCausalLM",),
        renames={"ff_intermediate_size": "intermediate_size"},
        tied=True,
    ),
    Family(
        types=("starcoder2",),
        classes=("Starcoder2ForCausalLM",),
        feed=plain,
        tied=True,
    ),
    Family(
        types=("stablelm", "stablelm_epoch"),
        classes=("StableLmForCausalLM", "StableLMEpochForCausalLM", "StableLMAlphaForCausalLM"),
    ),
    Family(
        types=("cohere", "cohere2"),
        classes=("CohereForCausalLM", "Cohere2ForCausalLM"),
        renames={"_sliding_window_pattern": "sliding_window_pattern"},
        defaults=_EVERY_FOURTH,
        tied=True,
    ),
    Family(
        types=("olmo", "olmo2", "olmo3"),
        classes=("OlmoForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM"),
        defaults=_EVERY_FOURTH,
    ),
    Family(
        types=("exaone4",),
        classes=("Exaone4ForCausalLM",),
        defaults=_EVERY_FOURTH,
    ),
    Family(
        types=("glm", "glm4", "glm4v_text", "glm_ocr_text"),
        classes=("GlmForCausalLM", "Glm4ForCausalLM"),
    ),
    Family(
        types=("nemotron", "arcee", "apertus", "persimmon", "jais2"),
        classes=(
            "NemotronForCausalLM", "ArceeForCausalLM", "ApertusForCausalLM",
            "PersimmonForCausalLM", "Jais2ForCausalLM",
        ),
        feed=plain,
    ),
    Family(
        types=("phi",),
        classes=("PhiForCausalLM",),
        feed=plain,
    ),
    Family(
        types=("mllama_text_model",),
        classes=("MllamaForCausalLM",),
        mixer=cross_or_self,
    ),
)  # fmt: skip
"""Dense decoders."""

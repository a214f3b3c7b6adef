"""Makes a tiny mixture-of-experts model with random weights, for trying a live server.

Nothing is downloaded: the weights are drawn from a seed and the tokenizer is trained on a
few lines of this file. Needs an environment with vLLM (it brings transformers)::

    .venv-live/bin/python examples/tiny_moe.py olmoe /tmp/tiny-olmoe
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

VOCABULARY = 1024
CONTEXT_TOKENS = 4096
SHAPES = ("olmoe", "qwen2moe")


def make_tokenizer() -> Any:
    """Returns a byte-level BPE tokenizer of at most ``VOCABULARY`` entries."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<eos>", "<pad>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(Path(__file__).read_text().splitlines(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", bos_token="<bos>"
    )


def make_model(shape: str, seed: int) -> Any:
    """Returns a random model with the architecture ``shape``, about 8 million parameters.

    Args:
        shape: One of :data:`SHAPES`.
        seed: Seed of the weights.
    """
    import torch
    from transformers import OlmoeConfig, OlmoeForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM

    torch.manual_seed(seed)
    common = {
        "vocab_size": VOCABULARY,
        # Heads of 80: for multiples of 32 vLLM 0.32 uses its AMX attention on CPUs that have
        # AMX, and dies of an illegal instruction if the operating system has not enabled AMX.
        "hidden_size": 320,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "max_position_embeddings": CONTEXT_TOKENS,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "bos_token_id": 2,
    }
    if shape == "olmoe":
        olmoe = OlmoeConfig(**common, intermediate_size=256, num_key_value_heads=4)
        return OlmoeForCausalLM(olmoe).to(torch.bfloat16)
    qwen = Qwen2MoeConfig(
        **common,
        intermediate_size=512,
        moe_intermediate_size=256,
        shared_expert_intermediate_size=256,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    return Qwen2MoeForCausalLM(qwen).to(torch.bfloat16)


def main() -> None:
    """Writes model and tokenizer to a directory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = make_model(options.shape, options.seed)
    model.save_pretrained(options.directory)
    make_tokenizer().save_pretrained(options.directory)
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{options.directory}: {options.shape}, {parameters / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()

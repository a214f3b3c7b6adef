"""Specifications of language models: the shapes that decide work, memory and traffic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from envs.errors import ConfigurationError
from envs.fields import Checked, OneOf, Range
from envs.quantities import (
    Fraction,
    Heads,
    HeadsOrNone,
    Layers,
    LayersOrNone,
    Tokens,
    TokensOrNone,
    Width,
    WidthOrNone,
)

WEIGHT_BYTES = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "fp8_block": 1.0,
    "mxfp4": 4.25 / 8,
    "int4": 4.25 / 8,
    "int4_g32": 4.5 / 8,
    "int8": 1.0,
    "int3": 3.25 / 8,
    "int2": 2.25 / 8,
    "nvfp4": 4.5 / 8,
}
"""Bytes per weight by storage precision; formats under 8 bits include their scales (one byte per
32 weights in MXFP4, per 16 in NVFP4; a bf16 scale and a zero per 128 weights, rounded up, in
AWQ and GPTQ; a scale per 32 in ``int4_g32``)."""

Weights = Annotated[int, Range(least=0, most=10**13)]
"""A number of weights."""


@dataclass(kw_only=True)
class ModelSpec(Checked):
    """The shape of a decoder-only transformer, dense or mixture-of-experts.

    Attributes:
        name: Name in the catalogue.
        huggingface_ids: Model identifiers (with or without owner) that share this shape.
        family: Name of the family, to leave whole families out in validation.
        layers: Transformer layers.
        hidden: Width of the residual stream.
        heads: Query heads.
        kv_heads: Key/value heads (grouped-query attention when fewer than ``heads``).
        head_dim: Width of a head.
        value_dim: Width of a value head; 0 for ``head_dim``.
        mlp_intermediate: Width of the dense feed-forward layers; 0 when all are experts.
        mlp_matrices: Matrices of a feed-forward layer: 3 when gated, 2 when plain.
        vocab: Vocabulary size.
        tied_embeddings: Whether input embedding and output projection share weights.
        experts: Routed experts per mixture-of-experts layer; 0 for a dense model.
        top_k: Routed experts that each token visits.
        expert_intermediate: Width of a routed expert.
        shared_expert_intermediate: Summed width of the experts that every token visits.
        expert_matrices: Matrices of an expert: 3 when gated, 2 when plain.
        moe_layers: Layers with routed experts.
        mlp_free_layers: Layers without a feed-forward part.
        sliding_window_tokens: Tokens that a sliding-window layer attends to; 0 for none.
        sliding_window_fraction: Fraction of the attention layers that use the sliding window.
        chunked_attention: Whether layers attend within chunks of the context (Llama 4), which
            vLLM keeps out of its CUDA graphs: the host launches each layer's attention.
        latent_kv_rank: Width of the latent that is cached (multi-head latent attention,
            arXiv:2405.04434 §2.1); 0 for ordinary attention.
        latent_q_rank: Width of the query latent; 0 when queries are projected directly.
        latent_rope_dim: Width of the rotary part of keys and queries.
        latent_nope_dim: Width of the rest of keys and queries.
        latent_v_dim: Width of values.
        attention_free_layers: Layers without softmax attention; ``None`` for as many as
            ``linear_layers``. Hybrid layers may have both, or neither.
        cached_layers: Layers with a cache of their own; ``None`` for all with softmax attention.
            Others read the cache of an earlier layer.
        linear_layers: Layers with linear attention, a state-space model or a convolution.
        linear_params_per_layer: Weights of one such layer.
        linear_state_bytes: Bytes of recurrent state per sequence and linear layer.
        weight_precision: Storage of dense weights: ``bf16``, ``fp8`` (scaled by tensor or
            channel), ``fp8_block`` (scaled by block), ``mxfp4``, ``int4`` or ``fp32``.
        expert_precision: Storage of routed experts; empty for ``weight_precision``.
        unconverted_params: Dense weights that a quantised checkpoint keeps in 16 bits.
        more_params: Weights of layers beyond what follows from the shape, such as output gates
            or an indexer's; negative where most layers have more than some.
        more_cache_bytes: Bytes of cache per token beyond what follows from the shape.
        table_params: Weights of look-up tables beside the embedding, such as learned positions.
        encoder_params: Weights of encoders of images or sounds, and of adapters for them, which
            take memory only.
        kv_bytes: Bytes per cached key or value element.
        max_model_len: Context length in tokens.
        sources: Where the numbers come from.
    """

    config_key: ClassVar[str] = "model"

    name: str = ""
    huggingface_ids: list[str] = field(default_factory=list)
    family: str = ""
    layers: Layers = 1
    hidden: Width = 1
    heads: Heads = 1
    kv_heads: HeadsOrNone = 0
    head_dim: WidthOrNone = 0
    value_dim: WidthOrNone = 0
    mlp_intermediate: WidthOrNone = 0
    mlp_matrices: Annotated[int, Range(least=1, most=3)] = 3
    vocab: Annotated[int, Range(least=1, most=10_000_000)] = 1
    tied_embeddings: bool = False
    experts: HeadsOrNone = 0
    top_k: HeadsOrNone = 0
    expert_intermediate: WidthOrNone = 0
    shared_expert_intermediate: WidthOrNone = 0
    expert_matrices: Annotated[int, Range(least=2, most=3)] = 3
    moe_layers: LayersOrNone = 0
    mlp_free_layers: LayersOrNone = 0
    sliding_window_tokens: TokensOrNone = 0
    sliding_window_fraction: Fraction = 0.0
    chunked_attention: bool = False
    latent_kv_rank: WidthOrNone = 0
    latent_q_rank: WidthOrNone = 0
    latent_rope_dim: WidthOrNone = 0
    latent_nope_dim: WidthOrNone = 0
    latent_v_dim: WidthOrNone = 0
    attention_free_layers: LayersOrNone | None = None
    cached_layers: LayersOrNone | None = None
    linear_layers: LayersOrNone = 0
    linear_params_per_layer: Annotated[int, Range(least=0, most=10**11)] = 0
    linear_state_bytes: Annotated[int, Range(least=0, most=10**10)] = 0
    weight_precision: Annotated[str, OneOf(*WEIGHT_BYTES)] = "bf16"
    expert_precision: Annotated[str, OneOf(*WEIGHT_BYTES, "")] = ""
    unconverted_params: Weights = 0
    more_params: Annotated[int, Range(least=-(10**13), most=10**13)] = 0
    more_cache_bytes: Annotated[int, Range(least=-(10**9), most=10**9)] = 0
    table_params: Weights = 0
    encoder_params: Weights = 0
    kv_bytes: Annotated[float, Range(least=0.25, most=16.0)] = 2.0
    max_model_len: Tokens = 4096
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fills in what follows from the rest, and checks what belongs together.

        Raises:
            ConfigurationError: A number is impossible, by itself or beside another.
        """
        super().__post_init__()
        self.kv_heads = self.kv_heads or self.heads
        self.head_dim = self.head_dim or max(1, self.hidden // self.heads)
        self.value_dim = self.value_dim or self.head_dim
        self.expert_precision = self.expert_precision or self.weight_precision
        if self.experts:
            whole = (
                0 < self.top_k <= self.experts
                and self.expert_intermediate > 0
                and 0 < self.moe_layers <= self.layers
            )
            rule = "have 0 < top_k <= experts, expert_intermediate > 0, 0 < moe_layers <= layers"
            self.require(whole, "experts", rule)
        dense = self.layers - self.moe_layers - self.mlp_free_layers
        self.require(dense >= 0, "mlp_free_layers", f"be <= {self.layers - self.moe_layers}")
        self.require(
            self.mlp_intermediate > 0 or dense == 0 or self.experts > 0,
            "mlp_intermediate", "be > 0 in a dense model",
        )  # fmt: skip
        self.require(self.linear_layers <= self.layers, "linear_layers", f"be <= {self.layers}")
        attending = self.attention_layers
        self.require(0 <= attending <= self.layers, "attention_free_layers", f"be <= {self.layers}")
        own = self.cached_layers
        self.require(own is None or own <= attending, "cached_layers", f"be <= {attending}")
        self.require(
            self.dense_params > 0 and self.unconverted_params <= self.dense_params,
            "more_params", "leave weights to the layers, and more than are unconverted",
        )  # fmt: skip
        if self.kv_bytes_per_token <= 0:
            key = "model.more_cache_bytes" if attending else "model.attention_free_layers"
            raise ConfigurationError(
                f"{key}: the model would cache nothing ({attending} layers with attention); a "
                "server without a KV cache is not simulated"
            )

    @property
    def block_scaled(self) -> bool:
        """Whether the weights are FP8 with one scale per block."""
        return self.weight_precision == "fp8_block"

    @property
    def attention_layers(self) -> int:
        """Layers with softmax attention."""
        without = self.attention_free_layers
        return self.layers - (self.linear_layers if without is None else without)

    @property
    def attention_params(self) -> int:
        """Weights of one softmax-attention layer."""
        if self.latent_kv_rank:
            query_width = self.heads * (self.latent_nope_dim + self.latent_rope_dim)
            query = (
                self.hidden * self.latent_q_rank + self.latent_q_rank * query_width
                if self.latent_q_rank
                else self.hidden * query_width
            )
            down = self.hidden * (self.latent_kv_rank + self.latent_rope_dim)
            up = self.latent_kv_rank * self.heads * (self.latent_nope_dim + self.latent_v_dim)
            out = self.heads * self.latent_v_dim * self.hidden
            return query + down + up + out
        return self.hidden * (self.head_dim + self.value_dim) * (self.heads + self.kv_heads)

    @property
    def dense_params(self) -> int:
        """Weights that every token uses, without embedding and output projection."""
        attention = (
            self.attention_layers * self.attention_params
            + self.linear_layers * self.linear_params_per_layer
        )
        mlp = (
            (self.layers - self.moe_layers - self.mlp_free_layers)
            * self.mlp_matrices * self.hidden * self.mlp_intermediate
        )  # fmt: skip
        shared = (
            self.moe_layers * self.expert_matrices * self.hidden * self.shared_expert_intermediate
        )
        router = self.moe_layers * self.hidden * self.experts
        return attention + mlp + shared + router + self.more_params

    @property
    def params_per_expert(self) -> int:
        """Weights of one routed expert of one layer."""
        return self.expert_matrices * self.hidden * self.expert_intermediate

    @property
    def expert_params(self) -> int:
        """Weights of all routed experts of all layers."""
        return self.moe_layers * self.experts * self.params_per_expert

    @property
    def head_params(self) -> int:
        """Weights of the output projection."""
        return self.hidden * self.vocab

    @property
    def total_params(self) -> int:
        """All weights of the language model."""
        embeddings = self.head_params * (1 if self.tied_embeddings else 2) + self.table_params
        return self.dense_params + self.expert_params + embeddings

    @property
    def active_params(self) -> int:
        """Weights that one token uses, embeddings counted as in :attr:`total_params`."""
        active_experts = self.moe_layers * self.top_k * self.params_per_expert
        return self.total_params - self.expert_params + active_experts

    @property
    def dense_bytes(self) -> float:
        """Bytes of :attr:`dense_params`."""
        each = WEIGHT_BYTES[self.weight_precision]
        return self.dense_params * each + self.unconverted_params * (2.0 - each)

    @property
    def head_bytes(self) -> float:
        """Bytes of the output projection, which quantised checkpoints leave in bf16."""
        return self.head_params * max(2.0, WEIGHT_BYTES[self.weight_precision])

    @property
    def expert_bytes(self) -> float:
        """Bytes of all routed experts."""
        return self.expert_params * WEIGHT_BYTES[self.expert_precision]

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights, with look-up tables and encoders in 16 bits."""
        embeddings = self.head_bytes * (1 if self.tied_embeddings else 2)
        beside = 2.0 * (self.table_params + self.encoder_params)
        return self.dense_bytes + self.expert_bytes + embeddings + beside

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes that one token adds to the cache of the whole model, sliding windows ignored."""
        if self.latent_kv_rank:
            width = self.latent_kv_rank + self.latent_rope_dim
        else:
            width = self.kv_heads * (self.head_dim + self.value_dim)
        own = self.attention_layers if self.cached_layers is None else self.cached_layers
        return own * width * self.kv_bytes + self.more_cache_bytes

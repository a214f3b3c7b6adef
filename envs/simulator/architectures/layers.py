"""The layers of a model, one by one, and what each computes, stores and caches."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Softmax attention over cached keys and values.

    Attributes:
        heads: Query heads.
        kv_heads: Key/value heads.
        key_dim: Width of a key or query head.
        value_dim: Width of a value head.
        window: Tokens that it attends to; 0 for all.
        cached: Whether the layer has a cache of its own; otherwise it reads an earlier layer's.
        projects: Whether it projects keys and values.
    """

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int = 0
    cached: bool = True
    projects: bool = True

    def params(self, hidden: int) -> int:
        """Returns the weights of its projections."""
        widths = self.key_dim + self.value_dim
        kv = self.kv_heads if self.projects else 0
        return hidden * widths * (self.heads + kv)

    @property
    def cached_elements(self) -> int:
        """Elements that one token adds to the cache."""
        return self.kv_heads * (self.key_dim + self.value_dim) if self.cached else 0


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Multi-head latent attention (arXiv:2405.04434 §2.1): a latent is cached.

    Attributes:
        heads: Heads.
        kv_rank: Width of the latent.
        q_rank: Width of the query latent; 0 when queries are projected directly.
        rope_dim: Width of the rotary part of keys and queries.
        nope_dim: Width of the rest of keys and queries.
        value_dim: Width of values.
    """

    heads: int
    kv_rank: int
    q_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int

    def params(self, hidden: int) -> int:
        """Returns the weights of its projections."""
        queries = self.heads * (self.nope_dim + self.rope_dim)
        query = (hidden + queries) * self.q_rank if self.q_rank else hidden * queries
        down = hidden * (self.kv_rank + self.rope_dim)
        up = self.kv_rank * self.heads * (self.nope_dim + self.value_dim)
        return query + down + up + self.heads * self.value_dim * hidden

    @property
    def cached_elements(self) -> int:
        """Elements that one token adds to the cache."""
        return self.kv_rank + self.rope_dim


@dataclass(frozen=True, kw_only=True)
class Recurrent:
    """A layer whose memory does not grow: linear attention, a state-space model, a convolution.

    Attributes:
        params: Weights.
        state_bytes: Bytes of state of one sequence.
    """

    params: int
    state_bytes: int


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """A dense feed-forward layer.

    Attributes:
        width: Its inner width.
        matrices: 3 when gated, 2 when plain.
    """

    width: int
    matrices: int = 3

    def params(self, hidden: int) -> int:
        """Returns its weights."""
        return self.matrices * hidden * self.width


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture-of-experts layer.

    Attributes:
        count: Routed experts.
        top_k: Routed experts that each token visits.
        width: Inner width of a routed expert.
        shared: Summed inner width of what every token visits beside them.
        matrices: 3 when gated, 2 when plain.
    """

    count: int
    top_k: int
    width: int
    shared: int = 0
    matrices: int = 3

    def shared_params(self, hidden: int) -> int:
        """Returns the weights of the shared experts."""
        return self.matrices * hidden * self.shared


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer.

    Attributes:
        attention: Its attention, if it has any.
        recurrent: Its recurrent part, if it has any; beside attention both are computed.
        feed: Its feed-forward part, if it has any.
        more_params: Weights of the attention part beyond its kind's, such as an output gate.
        more_cache_bytes: Bytes that a token adds to caches of its own, such as an indexer's.
    """

    attention: Attention | Latent | None = None
    recurrent: Recurrent | None = None
    feed: Mlp | Experts | None = None
    more_params: int = 0
    more_cache_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A language model.

    Attributes:
        hidden: Width of the residual stream.
        vocab: Vocabulary size.
        layers: Its layers.
        tied: Whether input embedding and output projection share weights.
        max_tokens: Context length.
        more_params: Weights that every token uses beside layers, embedding and head.
        table_params: Weights of further look-up tables, such as learned positions.
    """

    hidden: int
    vocab: int
    layers: list[Layer] = field(default_factory=list)
    tied: bool = False
    max_tokens: int = 4096
    more_params: int = 0
    table_params: int = 0

    @property
    def is_sparse(self) -> bool:
        """Whether any layer has experts."""
        return any(isinstance(layer.feed, Experts) for layer in self.layers)

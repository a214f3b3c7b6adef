"""The matrix products of a step that every token takes part in, by shape.

A kernel's time depends on its shape, so that a model's weights are not one number of bytes but a
list of products ``[tokens, depth] x [depth, width]``, cut by tensor parallelism as vLLM cuts them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from envs.simulator.models import ModelSpec


@dataclass(frozen=True)
class Product:
    """A matrix product that occurs several times a step.

    Attributes:
        count: Times per step.
        width: Columns of its weights on one GPU.
        depth: Rows of its weights on one GPU.
    """

    count: int
    width: float
    depth: float

    @property
    def weights(self) -> float:
        """Weights of all its occurrences."""
        return self.count * self.width * self.depth


def dense_products(model: ModelSpec, tensor: int) -> list[Product]:
    """Returns the products of all layers but the routed experts, on one of ``tensor`` GPUs.

    Projections that share their input are one product, as in vLLM. Key/value heads are
    replicated where there are fewer than GPUs. Of linear attention only the number of weights is
    known: two thirds go in, one third comes out. Weights beyond the shape widen all products.
    """
    products = _latent(model, tensor) if model.latent_kv_rank else _attention(model, tensor)
    if model.linear_layers:
        width = model.linear_params_per_layer / model.hidden / 3.0 / tensor
        products.append(Product(model.linear_layers, 2.0 * width, model.hidden))
        products.append(Product(model.linear_layers, model.hidden, width))
    dense_layers = model.layers - model.moe_layers - model.mlp_free_layers
    products += _mlp(model, dense_layers, model.mlp_intermediate, model.mlp_matrices, tensor)
    if model.moe_layers:
        shared, matrices = model.shared_expert_intermediate, model.expert_matrices
        products.append(Product(model.moe_layers, model.experts, model.hidden))
        products += _mlp(model, model.moe_layers, shared, matrices, tensor)
    more = model.dense_params / (model.dense_params - model.more_params)
    return [replace(p, width=more * p.width) for p in products if p.weights]


def head_product(model: ModelSpec, tensor: int) -> Product:
    """Returns the output projection."""
    return Product(1, model.vocab / tensor, model.hidden)


def _attention(model: ModelSpec, tensor: int) -> list[Product]:
    kv_heads = max(model.kv_heads / tensor, 1.0)
    width = (model.heads / tensor + kv_heads) * model.head_dim + kv_heads * model.value_dim
    return [
        Product(model.attention_layers, width, model.hidden),
        Product(model.attention_layers, model.hidden, model.heads * model.value_dim / tensor),
    ]


def _latent(model: ModelSpec, tensor: int) -> list[Product]:
    """Multi-head latent attention (arXiv:2405.04434 §2.1)."""
    layers, heads = model.attention_layers, model.heads / tensor
    query_width = heads * (model.latent_nope_dim + model.latent_rope_dim)
    down = model.latent_kv_rank + model.latent_rope_dim
    up = heads * (model.latent_nope_dim + model.latent_v_dim)
    products = [
        Product(layers, up, model.latent_kv_rank),
        Product(layers, model.hidden, heads * model.latent_v_dim),
    ]
    if model.latent_q_rank:
        products.append(Product(layers, model.latent_q_rank + down, model.hidden))
        products.append(Product(layers, query_width, model.latent_q_rank))
    else:
        products.append(Product(layers, query_width + down, model.hidden))
    return products


def _mlp(
    model: ModelSpec, layers: int, intermediate: int, matrices: int, tensor: int
) -> list[Product]:
    width = intermediate / tensor
    return [
        Product(layers, (matrices - 1) * width, model.hidden),
        Product(layers, model.hidden, width),
    ]

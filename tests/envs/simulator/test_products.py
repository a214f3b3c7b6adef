"""Matrix products hold a model's weights, cut as tensor parallelism cuts them."""

from __future__ import annotations

import pytest

from envs import catalog
from envs.simulator.models import ModelSpec
from envs.simulator.products import dense_products, head_product

MODELS = [name for name in catalog.names("model") if name != "huggingface"]


@pytest.mark.parametrize("name", MODELS)
def test_the_products_of_one_gpu_hold_every_dense_weight_once(name: str) -> None:
    model: ModelSpec = catalog.build("model", name)
    weights = sum(product.weights for product in dense_products(model, 1))
    assert weights == pytest.approx(model.dense_params, rel=1e-6)
    assert head_product(model, 1).weights == model.head_params


def test_key_value_heads_are_replicated_where_there_are_fewer_than_gpus() -> None:
    model: ModelSpec = catalog.build("model", "qwen3_30b_a3b")  # 4 key/value heads
    query = dense_products(model, 8)[0]
    assert query.depth == model.hidden
    assert query.width == pytest.approx((32 / 8 + 2 * 1) * 128)


def test_ranks_share_the_depth_of_one_product_and_the_width_of_the_other() -> None:
    model: ModelSpec = catalog.build("model", "llama31_8b")
    up, down = dense_products(model, 4)[-2:]
    assert (up.width, up.depth) == (2 * 14336 / 4, 4096)
    assert (down.width, down.depth) == (4096, 14336 / 4)

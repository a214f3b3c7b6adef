"""Measured kernels: shapes and times of one kind of kernel on one GPU type."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from envs.simulator.gpus import GPUSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class KernelRows:
    """Kernels of one kind; every array has one entry per measured shape.

    Attributes:
        seconds: Measured time.
        shape: Which shapes belong together: they are left out of a fit together.
    """

    seconds: Floats
    shape: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of measured shapes."""
        return len(self.seconds)

    def taken(self, chosen: NDArray[np.bool_]) -> Self:
        """Returns the chosen rows."""
        arrays = {
            item.name: value[chosen]
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), np.ndarray)
        }
        return replace(self, **arrays)


@dataclass(frozen=True)
class ProductRows(KernelRows):
    """Matrix products ``[tokens, depth] x [depth, width]``.

    Attributes:
        precision: How the weights are stored, as in :class:`~envs.simulator.models.ModelSpec`.
        tokens: Rows of the input.
        width: Columns of the weights.
        depth: Rows of the weights.
    """

    precision: str
    tokens: Floats
    width: Floats
    depth: Floats


@dataclass(frozen=True)
class ExpertRows(KernelRows):
    """Routed experts of one layer, on the GPU whose experts have most to do.

    Attributes:
        precision: How the weights are stored.
        tokens: Tokens that are routed, over all ranks.
        weights: Weights of one expert on this GPU.
        touched: Experts of this GPU that at least one token visits.
        routed: Visits to experts of this GPU.
    """

    precision: str
    tokens: Floats
    weights: Floats
    touched: Floats
    routed: Floats


@dataclass(frozen=True)
class DecodeRows(KernelRows):
    """Attention of one layer for sequences that decode one token each.

    Attributes:
        sequences: Sequences.
        length: Tokens that each has cached.
        heads: Query heads.
        kv_heads: Key/value heads.
        head_dim: Width of a head.
    """

    sequences: Floats
    length: Floats
    heads: Floats
    kv_heads: Floats
    head_dim: Floats


@dataclass(frozen=True)
class PromptRows(KernelRows):
    """Attention of one layer over whole prompts.

    Attributes:
        prompts: Prompts.
        length: Tokens of each.
        heads: Query heads.
        head_dim: Width of a head.
    """

    prompts: Floats
    length: Floats
    heads: Floats
    head_dim: Floats


@dataclass(frozen=True)
class ReduceRows(KernelRows):
    """All-reduces within a node.

    Attributes:
        ranks: GPUs.
        message_bytes: Bytes that each contributes.
    """

    ranks: Floats
    message_bytes: Floats


@dataclass(frozen=True)
class KernelTables:
    """All measured kernels of one GPU type.

    Attributes:
        gpu: GPU type that they were measured on.
        products: By precision.
        experts: By precision.
        decode: Attention of decoding.
        prompts: Attention over prompts.
        reduces: All-reduces.
        files: The files they come from.
    """

    gpu: GPUSpec
    products: tuple[ProductRows, ...] = ()
    experts: tuple[ExpertRows, ...] = ()
    decode: DecodeRows | None = None
    prompts: PromptRows | None = None
    reduces: ReduceRows | None = None
    files: list[Path] = field(default_factory=list)

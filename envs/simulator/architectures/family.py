"""One architecture: its names, its key names, and what its layers are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from envs.simulator.architectures.context import context_tokens
from envs.simulator.architectures.feeds import Feed, mlp
from envs.simulator.architectures.keys import Keys
from envs.simulator.architectures.layers import Layer, Shape
from envs.simulator.architectures.mixers import attention

LayerOf = Callable[[Keys, int], Layer]


@dataclass(frozen=True, kw_only=True)
class Family:
    """An architecture, or several that say the same things by the same names.

    Attributes:
        types: Its names in ``model_type``.
        classes: Its names in ``architectures``.
        mixer: Returns what mixes the tokens of a layer.
        feed: Returns the feed-forward part of a layer; a layer whose mixer gave one keeps it.
        renames: This package's names by the file's.
        defaults: What the file need not say; counts before the defaults of ``defaults.yaml``.
        tied: Whether embeddings are tied where the file is silent.
        prepare: Changes the values of the file first, where they are nested or mean another thing.
        more: Returns weights that every token uses beside layers and embeddings.
        table: Returns the weights of look-up tables beside the embedding.
        understands: Beginnings of keys that are read where they matter, and may be there
            where they do not.
    """

    types: tuple[str, ...]
    classes: tuple[str, ...] = ()
    mixer: LayerOf = attention
    feed: Feed = mlp
    renames: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    tied: bool = False
    prepare: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    more: Callable[[Keys], int] = lambda keys: 0
    table: Callable[[Keys], int] = lambda keys: 0
    understands: tuple[str, ...] = ()

    def type_of(self, name: str) -> str:
        """Returns the ``model_type`` that belongs to a name in ``architectures``.

        Args:
            name: One of :attr:`classes`.
        """
        stem = name.removesuffix("ForCausalLM").lower()
        alike = [kind for kind in self.types if kind.replace("_", "") == stem]
        return alike[0] if alike else self.types[0]

    def shape(self, keys: Keys) -> Shape:
        """Returns the model that a configuration describes.

        Args:
            keys: The configuration, under this package's names.

        Raises:
            ConfigurationError: A value is missing or makes no sense.
        """
        layers = []
        for index in range(keys.layers):
            layer = self.mixer(keys, index)
            if layer.feed is None and not keys.flag("feeds_given"):
                layer = replace(layer, feed=self.feed(keys, index))
            layers.append(layer)
        return Shape(
            hidden=keys.whole("hidden_size"),
            vocab=keys.whole("vocab_size"),
            layers=layers,
            tied=keys.flag("tie_word_embeddings", self.tied),
            max_tokens=context_tokens(keys),
            more_params=self.more(keys),
            table_params=self.table(keys),
        )

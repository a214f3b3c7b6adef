"""The offline model: random forests that predict a configuration's throughput and power."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.profile import Profile, ProfileRow
from envs.actions.base import KnobGrid
from envs.errors import ConfigurationError, PalsError
from envs.fields import Checked, Range
from envs.kept_files import keep, read_kept, say_once
from envs.sources import library_versions, source_hash

FloatArray = NDArray[np.float64]
INPUTS = ("power_cap_w", "max_num_seqs", "tensor_parallel", "expert_parallel", "data_parallel")
"""Inputs of the forests (arXiv:2605.21427 §3.2)."""
TARGETS = ("throughput_tok_s", "power_w", "tpot_s")
_TRUSTED = {"sklearn.tree._tree.Tree"}
"""Types of which forests are made and which skops does not trust by default."""


@dataclass(kw_only=True)
class ForestConfig(Checked):
    """The forests' parameters; the paper does not give its own.

    Attributes:
        trees: Trees per forest.
        min_samples_leaf: Fewest profile rows in a leaf.
        folds: Folds of the cross-validation that the reported errors come from.
        random_state: Seed of the forests and folds.
    """

    config_key: ClassVar[str] = "controller.forest"

    trees: Annotated[int, Range(least=1, most=10_000)] = 100
    min_samples_leaf: Annotated[int, Range(least=1, most=10_000)] = 1
    folds: Annotated[int, Range(least=2, most=1000)] = 5
    random_state: Annotated[int, Range(least=0, most=2**32 - 1)] = 0


class PredictionTable(NamedTuple):
    """Predictions over the grid; arrays of shape ``(caps, batch limits)``.

    Attributes:
        throughput_tok_s: Output tokens per second at saturation.
        power_w: Power of all GPUs together.
        tpot_s: Time per output token.
    """

    throughput_tok_s: FloatArray
    power_w: FloatArray
    tpot_s: FloatArray


class FitReport(NamedTuple):
    """How well the forests fit the profile.

    Attributes:
        rows: Rows fitted to.
        mape: Mean absolute percentage error on held-out rows, per target, as a fraction
            (arXiv:2605.21427 §3.2 has 0.068 for throughput, 0.045 for power).
        importance: Impurity-based importance of each input, per target; ``tokens_per_joule``
            is that of a forest for throughput over power.
    """

    rows: int
    mape: dict[str, float]
    importance: dict[str, dict[str, float]]


class Predictor:
    """Random forests for throughput, power and time per output token.

    Args:
        forests: A fitted ``RandomForestRegressor`` per target in :data:`TARGETS`.
        report: How well they fit.
    """

    def __init__(self, forests: dict[str, Any], report: FitReport) -> None:
        self.forests = forests
        self.report = report

    @classmethod
    def fit(cls, profile: Profile, config: ForestConfig) -> Predictor:
        """Fits the forests to a profile and cross-validates them.

        Raises:
            ConfigurationError: The profile has fewer rows than folds, or a measurement that is
                not positive and finite.
        """
        from sklearn.model_selection import KFold

        if len(profile.rows) < config.folds:
            raise ConfigurationError(
                f"controller.forest.folds: {config.folds} folds need as many profile rows, "
                f"there are {len(profile.rows)}"
            )
        inputs = _inputs(profile.rows)
        targets = {name: np.array([getattr(row, name) for row in profile.rows]) for name in TARGETS}
        for name, values in targets.items():
            if not (np.isfinite(values).all() and (values > 0).all()):
                raise ConfigurationError(f"profile: {name} must be positive in every row")
        folds = KFold(config.folds, shuffle=True, random_state=config.random_state)
        splits = list(folds.split(inputs))
        forests, mape, importance = {}, {}, {}
        for name, values in targets.items():
            ratios = [
                _forest(inputs[fit], values[fit], config).predict(inputs[held]) / values[held]
                for fit, held in splits
            ]
            mape[name] = float(np.abs(np.concatenate(ratios) - 1.0).mean())
            forests[name] = _forest(inputs, values, config)
            importance[name] = _importance(forests[name])
        efficiency = targets["throughput_tok_s"] / targets["power_w"]
        importance["tokens_per_joule"] = _importance(_forest(inputs, efficiency, config))
        return cls(forests, FitReport(len(profile.rows), mape, importance))

    def tabulate(self, grid: KnobGrid, profile: Profile) -> PredictionTable:
        """Predicts all knobs of the grid once, so that deciding is a look-up.

        Args:
            grid: Caps and batch limits (a clock axis is ignored).
            profile: Names the parallelism of the server to be controlled.
        """
        sizes = (profile.tensor_parallel, profile.expert_parallel, profile.data_parallel)
        caps, seqs = grid.power_caps_w, grid.max_num_seqs
        inputs = np.array([[float(cap), batch, *sizes] for cap in caps for batch in seqs])
        shape = (len(caps), len(seqs))
        predictions = (self.forests[name].predict(inputs).reshape(shape) for name in TARGETS)
        return PredictionTable(*predictions)

    def stored(self) -> bytes:
        """Returns the forests as skops stores them (no pickle)."""
        import skops.io

        content = {"forests": self.forests, "report": json.dumps(self.report._asdict())}
        data: bytes = skops.io.dumps(content, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
        return data

    @classmethod
    def restored(cls, data: bytes) -> Predictor:
        """Returns stored forests; types other than those of forests are refused.

        Raises:
            PalsError: The content is damaged or holds types that forests do not need.
        """
        import skops.io

        try:
            unknown = set(skops.io.get_untrusted_types(data=data)) - _TRUSTED
            if not unknown:
                content = skops.io.loads(data, trusted=sorted(_TRUSTED))
                report = FitReport(**json.loads(content["report"]))
                return cls(content["forests"], report)
        except Exception as error:
            raise PalsError(f"not stored forests ({error})") from error
        raise PalsError(f"refused, they hold {', '.join(sorted(unknown))}")


def predictor_for(profile: Profile, config: ForestConfig) -> Predictor:
    """Returns the forests for a profile from the cache, fitted again when they are not there.

    They are found by the measurements that they were fitted to, not by what was to be measured.
    """
    made_by = [source_hash(["baselines"]), library_versions()]
    facts = json.dumps([profile.sha256, asdict(config), TARGETS, made_by], sort_keys=True)
    name = f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.skops"
    data = read_kept("forests", name)
    if data is not None:
        try:
            return _restored(data)
        except PalsError as error:
            say_once(f"kept forests {name}: {error}; they are fitted again")
    predictor = Predictor.fit(profile, config)
    keep("forests", name, predictor.stored())
    return predictor


@lru_cache(maxsize=8)
def _restored(data: bytes) -> Predictor:
    """Restores the same forests once per process."""
    return Predictor.restored(data)


def _inputs(rows: tuple[ProfileRow, ...]) -> FloatArray:
    return np.array([[getattr(row, name) for name in INPUTS] for row in rows], dtype=np.float64)


def _forest(inputs: FloatArray, values: FloatArray, config: ForestConfig) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        n_estimators=config.trees,
        min_samples_leaf=config.min_samples_leaf,
        random_state=config.random_state,
    )
    return forest.fit(inputs, values)


def _importance(forest: Any) -> dict[str, float]:
    return dict(zip(INPUTS, forest.feature_importances_.tolist(), strict=True))

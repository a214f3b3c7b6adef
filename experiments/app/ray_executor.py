"""Independent runs on a Ray cluster: a laptop or many machines, by the same command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from envs.errors import ConfigurationError
from envs.fields import Checked, Range
from envs.quantities import Bytes
from experiments.app.surroundings import Surroundings, Told


@dataclass(kw_only=True)
class RayJobs(Checked):
    """Processes of a Ray cluster, with joblib's Ray backend.

    Machines of a cluster need this project installed, the data a run reads, and the run's
    folder on a file system that they share.

    Attributes:
        address: Ray cluster to join, such as ``auto``; ``None`` takes the one this process has
            joined, or starts one on this machine.
        jobs: Runs at a time; -1 for one per CPU core of the cluster.
        object_store_bytes: Memory of the object store where Ray is started here.
    """

    config_key: ClassVar[str] = "executor"

    address: str | None = None
    jobs: Annotated[int, Range(least=-1, most=100_000)] = -1
    object_store_bytes: Bytes = 100_000_000

    def __post_init__(self) -> None:
        """Checks that there are processes."""
        super().__post_init__()
        self.require(self.jobs != 0, "jobs", "be a number of processes or -1")

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yields ``function(item)`` for every item, once all are done.

        Raises:
            ConfigurationError: Ray is not installed, or its cluster cannot be reached.
        """
        import joblib

        own = self._join()
        try:
            jobs = min(self._cores() if self.jobs == -1 else self.jobs, max(len(items), 1))
            with joblib.parallel_config("ray", n_jobs=jobs):
                told = Told(function, Surroundings.here(places=False))
                calls = (joblib.delayed(told)(item) for item in items)
                # Ray's backend has no generator in joblib 1.6: all come when the last is done.
                yield from joblib.Parallel(batch_size=1)(calls)
        finally:
            if own:
                import ray

                ray.shutdown()

    def _join(self) -> bool:
        """Joins or starts a Ray cluster; returns whether this call did."""
        try:
            import ray
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise ConfigurationError(
                "executor=ray needs Ray: pip install 'pals-gym[ray]'"
            ) from error
        register: Any = register_ray  # untyped in Ray
        register()
        if ray.is_initialized():
            return False
        try:
            if self.address is not None:
                ray.init(address=self.address, log_to_driver=False)
            else:
                ray.init(
                    include_dashboard=False,
                    log_to_driver=False,
                    object_store_memory=self.object_store_bytes,
                )
        except (ConnectionError, ValueError) as error:
            raise ConfigurationError(f"executor.address: {error}") from error
        return True

    @staticmethod
    def _cores() -> int:
        import ray

        resources: Any = ray.cluster_resources  # untyped in Ray
        return max(1, int(resources().get("CPU", 1)))

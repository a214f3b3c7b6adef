"""Specifications of GPU types: what their data sheets and `nvidia-smi` say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from envs.fields import Checked, Range
from envs.quantities import Clock, Watts


@dataclass(kw_only=True)
class GPUSpec(Checked):
    """A GPU type.

    What a data sheet does not say (how much of the peak a server reaches, how power follows
    the clock) is in the calibration that :attr:`calibration` names.

    Attributes:
        name: Name in the catalogue.
        chip: Name of the chip, where boards of another GPU type carry the same one: what its
            kernels take is then measured on all of these boards.
        device_name: Name that NVML reports.
        memory_gb: Memory in GB (1e9 bytes).
        memory_bandwidth_tb_s: Peak memory bandwidth in TB/s.
        flops_tera: Peak dense tensor throughput in TFLOP/s by precision; must hold ``bf16``.
        interconnect: Name of the link between the GPUs of a node.
        link_bandwidth_gb_s: Bandwidth of that link per GPU and direction in GB/s.
        switch_reduces: Whether the switch between the GPUs adds up all-reduces on its own.
        network_bandwidth_gb_s: Bandwidth between nodes per GPU and direction in GB/s.
        sm_clock_min_mhz: Lowest SM clock that can be locked.
        sm_clock_max_mhz: Highest SM clock.
        sm_clock_step_mhz: Distance between two clocks that can be locked.
        power_cap_min_w: Lowest power cap that the driver accepts.
        power_cap_max_w: Highest power cap (the default one).
        power_caps_w: Caps that a controller chooses from by default, ascending.
        idle_power_w: Power with a model loaded and no work.
        calibration: Name of the calibration (``conf/calibration``) for this GPU type.
        sources: Where each number comes from.
    """

    config_key: ClassVar[str] = "gpu"

    name: str = ""
    chip: str = ""
    device_name: str = ""
    memory_gb: Annotated[float, Range(above=0.0, most=1e5)] = 80.0
    memory_bandwidth_tb_s: Annotated[float, Range(above=0.0, most=1e4)] = 2.0
    flops_tera: dict[str, Annotated[float, Range(above=0.0, most=1e7)]] = field(
        default_factory=dict
    )
    interconnect: str = "PCIe"
    link_bandwidth_gb_s: Annotated[float, Range(above=0.0, most=1e6)] = 32.0
    switch_reduces: bool = False
    network_bandwidth_gb_s: Annotated[float, Range(above=0.0, most=1e6)] = 25.0
    sm_clock_min_mhz: Clock = 210.0
    sm_clock_max_mhz: Clock = 1410.0
    sm_clock_step_mhz: Annotated[float, Range(least=0.1, most=1e5)] = 15.0
    power_cap_min_w: Watts = 100.0
    power_cap_max_w: Watts = 400.0
    power_caps_w: list[Watts] = field(default_factory=list)
    idle_power_w: Watts = 60.0
    calibration: str = ""
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks what belongs together; sorts the caps.

        Raises:
            ConfigurationError: Bounds are not in order, or a cap is outside.
        """
        super().__post_init__()
        self.require("bf16" in self.flops_tera, "flops_tera", "hold bf16")
        self.require(
            self.sm_clock_min_mhz < self.sm_clock_max_mhz,
            "sm_clock_min_mhz",
            f"be below gpu.sm_clock_max_mhz ({self.sm_clock_max_mhz})",
        )
        self.require(
            self.power_cap_min_w < self.power_cap_max_w,
            "power_cap_min_w",
            f"be below gpu.power_cap_max_w ({self.power_cap_max_w})",
        )
        self.require(
            self.idle_power_w < self.power_cap_max_w,
            "idle_power_w",
            f"be below gpu.power_cap_max_w ({self.power_cap_max_w})",
        )
        caps = self.power_caps_w or [self.power_cap_min_w, self.power_cap_max_w]
        self.power_caps_w = sorted(float(cap) for cap in caps)
        inside = (
            self.power_cap_min_w <= self.power_caps_w[0]
            and self.power_caps_w[-1] <= self.power_cap_max_w
        )
        allowed = f"{self.power_cap_min_w} to {self.power_cap_max_w} W"
        self.require(inside, "power_caps_w", f"lie within the allowed range {allowed}")

    @property
    def min_clock_fraction(self) -> float:
        """Lowest SM clock as a fraction of the highest."""
        return self.sm_clock_min_mhz / self.sm_clock_max_mhz

    def flops(self, weight_precision: str) -> float:
        """Peak FLOP/s of a matrix product whose weights are stored in ``weight_precision``.

        Precisions without tensor cores of their own (4-bit weights on most GPUs are expanded
        to bf16 before the product) run at the bf16 rate.
        """
        return 1e12 * self.flops_tera.get(_rate(weight_precision), self.flops_tera["bf16"])

    def computes(self, weight_precision: str) -> bool:
        """Whether there are tensor cores for a storage precision, so that it is not expanded."""
        return _rate(weight_precision) in self.flops_tera


def _rate(weight_precision: str) -> str:
    """Returns the precision whose peak throughput products have."""
    return "fp8" if weight_precision.startswith("fp8") else weight_precision

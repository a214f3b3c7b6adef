"""Types of configuration values: what each measures, and which numbers make physical sense.

The bounds are wide: they keep out what cannot be meant, and what the machine could not hold.
"""

from __future__ import annotations

from typing import Annotated

from envs.fields import Range

Number = Annotated[float, Range(least=-1e12, most=1e12)]
Positive = Annotated[float, Range(above=0.0, most=1e12)]
NotNegative = Annotated[float, Range(least=0.0, most=1e12)]

Fraction = Annotated[float, Range(least=0.0, most=1.0)]
FractionBelowOne = Annotated[float, Range(least=0.0, below=1.0)]
PositiveFraction = Annotated[float, Range(above=0.0, most=1.0)]
Weight = Annotated[float, Range(least=-1e6, most=1e6)]
Factor = Annotated[float, Range(least=1e-3, most=1e3)]
Gain = Annotated[float, Range(least=0.0, most=1e6)]

Seconds = Annotated[float, Range(least=1e-6, most=1e7)]
SecondsOrNone = Annotated[float, Range(least=0.0, most=1e7)]
"""A time that may be 0: nothing is waited for."""
Interval = Annotated[float, Range(least=1e-3, most=3600.0)]
"""Time between two decisions."""
Hold = Annotated[float, Range(least=0.1, most=1e8)]
"""Time between two changes of a signal or of an arrival rate."""
RatePerSecond = Annotated[float, Range(least=1e-6, most=1e6)]

Watts = Annotated[float, Range(above=0.0, most=1e9)]
WattsOrNone = Annotated[float, Range(least=0.0, most=1e9)]

Seed = Annotated[int, Range(least=0, most=2**53)]
Count = Annotated[int, Range(least=1, most=1_000_000)]
Processes = Annotated[int, Range(least=1, most=4096)]
GPUs = Annotated[int, Range(least=1, most=1024)]
Batch = Annotated[int, Range(least=1, most=65_536)]
"""Requests that are served or held at a time."""
Tokens = Annotated[int, Range(least=1, most=10_000_000)]
TokensOrNone = Annotated[int, Range(least=0, most=10_000_000)]
MeanTokens = Annotated[float, Range(least=1e-3, most=1e7)]
Decisions = Annotated[int, Range(least=1, most=10**12)]
Bytes = Annotated[int, Range(least=1, most=2**50)]

Clock = Annotated[float, Range(above=0.0, most=1e5)]
"""A clock in MHz."""
Layers = Annotated[int, Range(least=1, most=10_000)]
LayersOrNone = Annotated[int, Range(least=0, most=10_000)]
Heads = Annotated[int, Range(least=1, most=65_536)]
HeadsOrNone = Annotated[int, Range(least=0, most=65_536)]
Width = Annotated[int, Range(least=1, most=4_194_304)]
WidthOrNone = Annotated[int, Range(least=0, most=4_194_304)]
Load = Annotated[float, Range(above=0.0, most=100.0)]
"""An arrival rate or target as a fraction of a capacity."""
Seeds = Annotated[int, Range(least=1, most=100_000)]
"""How many seeds."""

"""The paper's figures and tables, remade from own runs, and its claims evaluated one by one.

Each module holds one figure: a keyword-only dataclass whose fields are the keys of
``conf/figure/NAME.yaml`` and whose ``make`` returns rows, a plot and claims. What they
share is in ``workshop`` (caching, resuming, progress), ``steady`` and ``episodes`` (the two
kinds of runs), ``claims`` and ``export``.
"""

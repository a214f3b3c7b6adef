"""The paper's figures and tables, remade from our own runs: ``python -m experiments.figures``.

One module a figure; each returns its data, draws it, and judges the claims that rest on it.
"""

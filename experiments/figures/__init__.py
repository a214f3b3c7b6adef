"""The paper's figures and tables, made from our own runs, and its claims evaluated one by one.

A figure is a package with the same parts everywhere: ``figure.py`` holds a keyword-only dataclass
whose fields are the keys of ``conf/figure/NAME.yaml``, ``data.py`` computes, ``plot.py`` draws,
``verdicts.py`` evaluates the paper's claims, and ``text.yaml`` holds what the paper says, its
numbers and all sentences. The modules of this folder are shared: ``context`` (compose, measure,
report progress), ``saturation`` and ``episodes`` (the two kinds of runs), ``claims``, ``text`` and
``export``.
"""

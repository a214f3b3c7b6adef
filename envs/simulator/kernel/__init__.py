"""Continuous batching as vLLM v1 does it, compiled: one control interval of one server.

Each engine step schedules the running sequences first (one token per decoding sequence, a
chunk for the one whose prompt is not finished), then admits waiting requests in order of
arrival while the token budget, the batch limit and the KV blocks allow. When blocks run out,
the newest running request is preempted: it loses its blocks, goes to the front of the queue
and recomputes prompt and output later. A batch limit below the number running admits nobody
until enough have finished.

Data-parallel replicas are engines of their own (:mod:`~envs.simulator.kernel.queue` says to which
one a request goes); those that share experts step in lockstep
(:mod:`~envs.simulator.kernel.launch`).

While the batch cannot change (no prompt to compute, nobody to admit, nobody about to finish)
several steps are taken at once, with the time of the one in the middle: the step time grows
by equal amounts as the context does.

A server's whole state is one row of memory, which begins with the record that the functions
here take: :mod:`~envs.simulator.kernel.layout` says what is remembered, and is to be read first.
Nothing is allocated, nothing is counted by reference, and many servers are stepped in parallel
by one call. With ``NUMBA_DISABLE_JIT=1`` all of it runs in plain Python, step by step under a
debugger if need be, and gives the same numbers.
"""

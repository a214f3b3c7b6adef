"""Changes vLLM's batch limit while it serves.

A plug-in for stock vLLM, without a fork: put the folder above this one on ``PYTHONPATH`` and
start the server with two more flags::

    --scheduler-cls pals_batch_limit.scheduler.BatchLimitScheduler
    --middleware pals_batch_limit.route.BatchLimitRoute

The plug-in needs vLLM and nothing else; it imports nothing from the rest of this project.
"""

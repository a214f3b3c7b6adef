"""Gymnasium environments for power-aware LLM serving.

Importing this package registers the environments::

    import envs
    import gymnasium

    env = gymnasium.make("pals/Simulated-v0", model="mixtral_8x7b")
"""

from __future__ import annotations

import gymnasium

from envs.suite_ids import register_suite

EPISODE_STEPS = 1200
"""Steps of an episode: 600 s at the default interval of 0.5 s."""

gymnasium.register(
    id="pals/Simulated-v0",
    entry_point="envs.factory:make_simulated",
    vector_entry_point="envs.factory:make_simulated_vector",
    max_episode_steps=EPISODE_STEPS,
)

gymnasium.register(
    id="pals/Cluster-v0",
    entry_point="envs.cluster.factory:make_cluster",
    max_episode_steps=EPISODE_STEPS,
)

gymnasium.register(
    id="pals/VLLM-v0",
    entry_point="envs.live.factory:make_live",
    max_episode_steps=EPISODE_STEPS,
    nondeterministic=True,
)

register_suite(EPISODE_STEPS)

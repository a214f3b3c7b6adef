"""What published model configurations say, architecture by architecture.

Hugging Face's ``config.json`` has no schema: every architecture has key names, defaults and
conventions of its own. Each is one entry of :data:`~envs.simulator.architectures.table.TABLE`; an
architecture that has none is refused.
"""

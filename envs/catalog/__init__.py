"""The catalogue of named choices: a second composer beside Hydra, because importing Hydra is slow.

``gymnasium.make("pals/Simulated-v0", workload="bursty")`` has to work without Hydra, whose import
costs more than the rest of ``envs``; the command line wants Hydra's overrides and sweeps. Both read
the same YAML files in ``conf``, so that a choice is written down once, and a test proves for each
file that both read it alike.
"""

from envs.catalog.building import build, nothing_chosen, refuse_other
from envs.catalog.choices import checked, load, resolved
from envs.catalog.files import (
    CONF_DIR,
    FOLDERS_VARIABLE,
    SCHEMA_PREFIX,
    add_folder,
    choice_file,
    groups,
    names,
    schema,
    schema_paths,
)
from envs.catalog.kinds import LIBRARY
from envs.catalog.targets import (
    PACKAGES_VARIABLE,
    allow_package,
    allowed_packages,
    buildable,
    locate,
)

__all__ = [
    "CONF_DIR",
    "FOLDERS_VARIABLE",
    "LIBRARY",
    "PACKAGES_VARIABLE",
    "SCHEMA_PREFIX",
    "add_folder",
    "allow_package",
    "allowed_packages",
    "build",
    "buildable",
    "checked",
    "choice_file",
    "groups",
    "load",
    "locate",
    "names",
    "nothing_chosen",
    "refuse_other",
    "resolved",
    "schema",
    "schema_paths",
]

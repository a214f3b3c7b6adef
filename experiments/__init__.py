"""Commands (flat files) and their parts (packages).

The first import of any of them makes sure that the packages Python finds are this project's own.
"""

import sys

if "experiments.control" in sys.orig_argv:  # before anything that takes its time is loaded
    from experiments.service import first_signals

    first_signals.heed()

from pals_gym.names import check_names

check_names()

"""Commands (flat files) and their parts (packages).

The first import of any of them makes sure that the packages Python finds are this project's own.
"""

from pals_gym.names import check_names

check_names()

"""Which parts of a URL's path and query look like credentials.

A part is one if it follows a segment such as ``key`` or ``token``, is the last of a chat service's
webhook, or looks random: sixteen letters and digits or more without a break, mixed as no name is.
What people call models, deployments and files has breaks (``Llama-3.1-8B-Instruct``); UUIDs and
hashes of 40 or 64 hexadecimal digits name things, too, and stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s\"'<>?#]+(?P<rest>[/?#][^\s\"'<>,]*)", re.IGNORECASE)
_AFTER = {"apikey", "credential", "credentials", "key", "keys", "password", "secret", "secrets",
          "token", "tokens"}  # fmt: skip
"""Last words of segments that a credential follows."""
_WEBHOOK = re.compile(r"/services/T\w+/B\w+/(?P<secret>\w+)")
_PLAIN = re.compile(r"(?:(?:^|[-_.:])(?:[a-z]+|\d+|v\d+[a-z]*\d*))+")
"""Words and numbers, such as ``count_tokens`` and ``v1``: ends of an interface, and counts."""
_LEAST = 4
_RUN = re.compile(r"[A-Za-z0-9]{16,}")
_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_LETTERS_A_PIECE = 3.5
"""Words and numbers of names are longer than this on average, what is drawn at random shorter."""
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def url_secrets(text: str) -> Iterator[str]:
    """Yields what looks like a credential in the URLs of a text."""
    for url in _URL.finditer(text):
        path, _, query = url["rest"].partition("?")
        before = ""
        for part in path.split("/"):
            follows = re.split(r"[-_]", before.lower())[-1] in _AFTER
            named = follows and len(part) >= _LEAST and not _PLAIN.fullmatch(part)
            if named or _is_random(part):
                yield part
            before = part
        for part in re.split(r"[&;#]", query):
            value = part.rpartition("=")[2]
            if _is_random(value):
                yield value
        if hook := _WEBHOOK.search(path):
            yield hook["secret"]


def _is_random(text: str) -> bool:
    if _HASH.fullmatch(text):
        return False
    return any(
        any(map(str.isdigit, run))
        and any(map(str.isalpha, run))
        and len(_PIECE.findall(run)) * _LETTERS_A_PIECE > len(run)
        for run in _RUN.findall(text)
    )

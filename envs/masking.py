"""Secrets are left out of whatever is written down, shown or sent on.

A value is a secret by the name it goes under (``HF_TOKEN``, ``--api-key``, ``password``), by where
it comes from (an environment variable of such a name), or by its form (credentials in a URL, a
bearer token, the key of a known service). Once known it is masked wherever it appears, inside other
text, too. What only looks like a credential in the path of a URL (:mod:`envs.url_secrets`) is one
in a configuration alone: links in other text stay whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from envs.url_secrets import url_secrets

MASK = "***"
_WORDS = {
    "apikey", "auth", "authorization", "bearer", "cookie", "credential", "credentials", "dsn",
    "key", "keys", "pass", "passphrase", "passwd", "password", "passwords", "pat", "pwd", "secret",
    "secrets", "token", "tokens",
}  # fmt: skip
_NEVER_NUMBERS = {"key", "keys", "token", "tokens"}
"""Under these words numbers are counts, such as ``--max-num-batched-tokens``."""
_KEY_OF = {"access", "api", "auth", "encryption", "master", "private", "secret", "signing"}
"""Words that make a ``key`` of a configuration a secret; others name a column or an entry."""
_HARMLESS = (
    "CUDA_", "GLOO_", "LD_", "MKL_", "NCCL_", "NUMBA_", "NVIDIA_", "OMP_", "OPENBLAS_", "PYTHON",
    "PYTORCH_", "RAY_", "TOKENIZERS_", "TORCH_", "TRITON_", "VLLM_", "XDG_",
)  # fmt: skip
"""Beginnings of variables that a server's record shows; all others are masked."""
_IN_TEXT = 4
"""Shortest secret that is looked for inside other text."""
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")
_NAME = r"(?:api[_-]?key|token|secret|passw(?:or)?d)"
"""What the name of a secret ends in, in text. Where a value ends differs from form to form: masking
up to the first sign that ends any of them would show the rest of those that hold it."""
_FORMS = tuple(
    (re.compile(pattern, re.IGNORECASE), shown)
    for pattern, shown in (
        (r"(\b[a-z][a-z0-9+.-]*://)(?P<secret>[^/\s\"']+)@", rf"\1{MASK}@"),
        (
            r"([?&#](?:[\w-]*(?:key|token|secret|password|signature|credential)|sig|auth)=)"
            r"(?P<secret>[^&\s#\"']+)",
            rf"\1{MASK}",
        ),
        (r"(\bbearer\s+)(?P<secret>[\w.~+/=-]{6,})", rf"\1{MASK}"),
        (
            r"(\b(?:authorization|[\w-]*(?:api-key|auth-token)):\s*(?:(?:basic|token)\s+)?)"
            r"(?!bearer\s)(?P<secret>[^\s\"',]{6,})",
            rf"\1{MASK}",
        ),
        (
            rf"([\"'][\w-]*{_NAME}[\"']\s*[:=]\s*[\"'])(?P<secret>[^\"']+)",
            rf"\1{MASK}",
        ),
        (
            rf"(--[\w-]*{_NAME}[= ])(?![\d-])(?P<secret>[^\s\"',\]]+)",
            rf"\1{MASK}",
        ),
        (
            rf"((?<![\w-])(?:[\w-]*[_-])?{_NAME}=)"
            r"(?![\d+-]|\*{3})(?P<secret>[^\s\"',&;\]})]{6,})",
            rf"\1{MASK}",
        ),
        (
            r"\b(?P<secret>(?:hf_|sk-|ghp_|gho_|github_pat_|glpat-|xox[abp]-|AKIA|eyJ[\w-]+\.)"
            r"[\w./+=-]{10,})",
            MASK,
        ),
    )
)


class Masking:
    """Masks secrets, those of a configuration among them.

    Args:
        config: A configuration as plain values; what it holds of secrets is masked everywhere.
    """

    def __init__(self, config: Any = None) -> None:
        found = {*_in_environment(os.environ), *_in_config(config)}
        self._known = sorted((value for value in found if len(value) >= _IN_TEXT), key=len)[::-1]

    def text(self, text: str) -> str:
        """Returns a text without secrets."""
        for secret in self._known:
            text = text.replace(secret, MASK)
        for form, shown in _FORMS:
            text = form.sub(shown, text)
        return text

    def __call__(self, value: Any) -> Any:
        """Returns nested mappings, lists and values without secrets; keys stay as they are."""
        return self._masked(value)

    def _masked(self, value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return MASK if value and _is_secret_key(key) else self.text(value)
        if isinstance(value, Mapping):
            if key == "environment":
                return {
                    str(name): self._variable(str(name), str(item)) for name, item in value.items()
                }
            return {str(name): self._masked(item, str(name)) for name, item in value.items()}
        if isinstance(value, list | tuple):
            if value and all(isinstance(item, str) for item in value):
                return [self.text(item) for item in _masked_arguments(value)]
            return [self._masked(item, key) for item in value]
        return value

    def _variable(self, name: str, value: str) -> str:
        return MASK if _is_secret_variable(name, value) else self.text(value)


def _in_environment(environment: Mapping[str, str]) -> Iterator[str]:
    """Yields the secrets among this process's environment variables."""
    for name, value in environment.items():
        plain_word = value.isalpha() and value.islower()
        if _secret_words(name) and not (_is_place_or_number(value) or plain_word):
            yield value


def _in_config(value: Any, key: str = "") -> Iterator[str]:
    """Yields the secrets in a configuration."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if key == "environment":
                for text in _texts(item):
                    if _is_secret_variable(str(name), text) and not _is_place_or_number(text):
                        yield text
                    yield from _by_form(text)
            else:
                yield from _in_config(item, str(name))
    elif isinstance(value, list | tuple):
        if value and all(isinstance(item, str) for item in value):
            shown = _masked_arguments(value)
            for given, masked in zip(value, shown, strict=True):
                if given != masked:
                    yield given.partition("=")[2] if masked.endswith(f"={MASK}") else given
        for item in value:
            yield from _in_config(item, key)
    elif isinstance(value, str):
        if _is_secret_key(key):
            yield value
        yield from _by_form(value)


def _by_form(text: str) -> Iterator[str]:
    """Yields what a text's form says is a secret, as it stands there and as it is sent."""
    for part in url_secrets(text):
        yield from (part, unquote(part))
    for form, _ in _FORMS:
        for found in form.finditer(text):
            secret = found["secret"]
            if found[0].endswith("@"):  # user and password
                parts = [secret, secret.partition(":")[2]]
            else:
                word = secret.isalpha() and secret.islower()
                parts = [] if word or _is_place_or_number(secret) else [secret]
            for part in parts:
                yield from (part, unquote(part))


def _texts(value: Any) -> Iterator[str]:
    """Yields the texts in a value, nested ones, too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _is_secret_key(key: str) -> bool:
    """Returns whether a text under a key of a configuration is a secret."""
    *before, last = _words(key)
    if last in ("key", "keys"):
        return bool(_KEY_OF & set(before))
    return last in _WORDS - {"auth", "pass", "tokens"}


def _is_secret_variable(name: str, value: str) -> bool:
    """Returns whether an environment variable of a server is a secret, or may be."""
    if not value:
        return False
    if _secret_words(name):
        return not _is_count(name, value)
    inherited = value in os.environ.values() and not _is_place_or_number(value)
    return inherited or not name.upper().startswith(_HARMLESS)


def _masked_arguments(arguments: Sequence[str]) -> list[str]:
    """Returns a command line with the values of its secret options masked."""
    shown: list[str] = []
    secret = False
    for text in arguments:
        if text.startswith("-"):
            name, equals, value = text.partition("=")
            secret = bool(_secret_words(name))
            hide = secret and equals and not _is_count(name, value)
            shown.append(f"{name}={MASK}" if hide else text)
            previous = name
        else:
            shown.append(MASK if secret and not _is_count(previous, text) else text)
    return shown


def _is_count(name: str, value: str) -> bool:
    return bool(_NUMBER.fullmatch(value)) and _secret_words(name) <= _NEVER_NUMBERS


def _is_place_or_number(value: str) -> bool:
    return value.startswith(("/", "~", ".")) or bool(_NUMBER.fullmatch(value))


def _secret_words(name: str) -> set[str]:
    return _WORDS & set(_words(name))


def _words(name: str) -> list[str]:
    """Returns the words that a name is made of, in lower case; one at least."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.split(r"[^a-z0-9]+", spaced.lower())

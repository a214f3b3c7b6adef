"""Short HTTP calls to the server, with every failure as a type."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from envs.errors import ConfigurationError
from envs.live.errors import ServerDiedError, ServerHangsError, ServerNotThereError

if TYPE_CHECKING:
    from envs.live.config import VllmServerConfig


_UNFIT = re.compile(r"[\s\x00-\x1f\x7f]")


def authorization(api_key_env: str | None) -> dict[str, str]:
    """Returns the header that carries the API key of the environment variable, if it is set.

    Raises:
        ConfigurationError: It is none that a header can carry.
    """
    key = os.environ.get(api_key_env or "", "").strip()  # a file's last line has an end
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            f"server.api_key_env: the value of {api_key_env} has characters that no API key has"
        )
    return {"Authorization": f"Bearer {key}"} if key else {}


def _taken_apart(url: str) -> tuple[SplitResult, int | None]:
    """Returns an address by its parts, and its port.

    Raises:
        ConfigurationError: It is no HTTP address that can be called.
    """
    why = ""
    try:
        parts = urlsplit(url)
        port = parts.port
        parts.path.encode("ascii")
        host = (parts.hostname or "").encode("idna")
        if parts.scheme in ("http", "https") and host and not _UNFIT.search(parts.netloc):
            return parts, port
    except ValueError as error:  # a port that is no number, a bracket that is not closed
        why = f" ({error})"
    raise ConfigurationError(f"server.url: {url!r} is no http:// or https:// address{why}")


class HttpClient:
    """Calls one server; each call takes its own connection.

    Args:
        url: Address, such as ``http://127.0.0.1:8000``; a path is kept as a prefix.
        headers: Headers of every call.
        timeout_s: Longest time for a call.

    Raises:
        ConfigurationError: The address is no HTTP address.
    """

    @classmethod
    def of(cls, config: VllmServerConfig, url: str) -> HttpClient:
        """Returns a client with a server's API key and patience.

        Args:
            config: The server.
            url: Its address.

        Raises:
            ConfigurationError: The address is no HTTP address.
        """
        return cls(url, authorization(config.api_key_env), config.call_timeout_s)

    def __init__(self, url: str, headers: dict[str, str], timeout_s: float) -> None:
        parts, port = _taken_apart(url)
        self.url = url.rstrip("/")
        self.headers = headers
        self.timeout_s = timeout_s
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = port
        self._prefix = parts.path.rstrip("/")

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> tuple[int, bytes]:
        """Returns status and body of an answer.

        Raises:
            ServerNotThereError: Nothing listens there.
            ServerHangsError: No answer in time.
            ServerDiedError: The connection broke.
        """
        limit = self.timeout_s if timeout_s is None else timeout_s
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=limit)
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers | ({} if data is None else {"Content-Type": "application/json"})
        try:
            connection.request(method, self._prefix + path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except TimeoutError as error:
            raise ServerHangsError(
                f"{self.url}{path}: no answer within {limit:g} s; the server hangs or is overloaded"
            ) from error
        except (http.client.HTTPException, ConnectionResetError, BrokenPipeError) as error:
            raise ServerDiedError(f"{self.url}{path}: connection broke ({error!r})") from error
        except ssl.SSLError as error:
            raise ServerNotThereError(
                f"{self.url}: no secure connection ({error}); correct server.url, which begins "
                "with http:// where the server speaks plain HTTP"
            ) from error
        except OSError as error:
            raise ServerNotThereError(
                f"{self.url}: nothing answers ({error}); start the server, or correct server.url"
            ) from error
        finally:
            connection.close()

    def get_json(self, path: str) -> Any:
        """Returns the JSON body of a successful GET, or ``None`` for any other answer."""
        status, body = self.call("GET", path)
        if status != 200:
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return None

"""An OpenAI-compatible chat endpoint: POST BASE_URL/chat/completions, several calls at a time, tried again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson

from pertinent.errors import ConfigError, StoppedError
from pertinent.web.config import EndpointConfig, RetryConfig
from pertinent.web.request import Limits, WebError, request, with_retries

T = TypeVar("T")
R = TypeVar("R")
ANSWER = "endpoint's answer"
_MAX_ANSWER_BYTES = 1_000_000
_MIN_CALLS_TO_JUDGE = 8  # failed calls, and no good one, from which on the endpoint is held to be down


class ChatClient:
    """Calls one server. section: where the config names it, for messages; stop: once set, nothing is tried again."""

    def __init__(self, section: str, config: EndpointConfig, retry: RetryConfig, stop: threading.Event) -> None:
        """Raises ConfigError where the variable that should hold the key is not set."""
        self._section, self._config, self._retry, self._stop = section, config, retry, stop
        self.url = config.base_url.rstrip("/") + "/chat/completions"
        key = _key(section, config)
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **key}
        host = urlsplit(self.url).hostname or ""
        # The config names this host, so it may be local (vLLM beside us); no redirect is followed away from it.
        self._limits = Limits(ANSWER, config.timeout_s, _MAX_ANSWER_BYTES, allow_hosts=frozenset({host}))

    def body(self, fields: dict[str, Any]) -> bytes:
        """A request of the config's model: ``fields``, overlaid with the config's; one that is null is left out."""
        told = {"model": self._config.model, **fields, **self._config.extra}
        return orjson.dumps({name: value for name, value in told.items() if value is not None})

    def post(self, body: bytes) -> bytes:
        """One call; the answer as it came. Raises WebError."""
        return request("POST", self.url, self._limits, body=body, headers=self._headers)

    def tried(self, attempt: Callable[[], T]) -> T:
        """``attempt()``, made again after a transient WebError, as the config's retry says.

        Raises the WebError of the last try, ConfigError for a refused key or an unknown path or model.
        """
        try:
            return with_retries(attempt, self._retry, self._stop)
        except WebError as error:
            if error.status in (401, 403, 404):  # no other row will fare better
                raise ConfigError(
                    f"{self._section}: {self.url} with model {self._config.model}: expected status 200, found"
                    f" {error.status}; look at {self._section}.base_url, {self._section}.model and"
                    f" {self._section}.api_key_env"
                ) from None
            raise

    def each(self, call: Callable[[T], R], of: Iterable[T]) -> list[R]:
        """``call`` of each, config.concurrency at a time, in order. What one raises ends the others' second tries."""
        with ThreadPoolExecutor(self._config.concurrency) as pool:
            futures = [pool.submit(call, one) for one in of]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._stop.set()  # those who wait before another try give up
                pool.shutdown(cancel_futures=True)
                raise

    def require_life(self, answers: Sequence[object]) -> None:
        """Raises StoppedError where many calls were made and every one ended in a transient WebError."""
        failed = [answer for answer in answers if isinstance(answer, WebError) and answer.transient]
        if len(failed) == len(answers) >= _MIN_CALLS_TO_JUDGE:
            raise StoppedError(
                f"{self.url}: none of {len(failed)} calls got through; the first: {failed[0]}; the same command continues"
            )


def first_choice(answer: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document of a chat completion, and its first choice. Raises a transient WebError where it is none."""
    found = "JSON of another form"
    try:
        document = orjson.loads(answer)
        choice = document["choices"][0]
        if isinstance(choice["message"], dict):
            return document, choice
    except orjson.JSONDecodeError:
        found = "no JSON"
    except (LookupError, TypeError):
        pass
    raise _unlike(found)


def text_of(choice: dict[str, Any]) -> str:
    """What a choice says: its content, or why it refused. Raises a transient WebError where there is no text."""
    message = choice["message"]
    try:
        content = message.get("refusal") or message["content"]
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part.get("type") == "text")
    except (LookupError, TypeError, AttributeError):
        raise _unlike("JSON of another form") from None
    if isinstance(content, str):
        return content
    raise _unlike(type(content).__name__)


def _unlike(found: str) -> WebError:
    return WebError(f"{ANSWER} must be a chat completion with a text, got {found}", transient=True)


def _key(section: str, config: EndpointConfig) -> dict[str, str]:
    if config.api_key_env is None:
        return {}
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise ConfigError(f"{section}.api_key_env: environment variable {config.api_key_env} is not set")
    return {"Authorization": f"Bearer {key}"}

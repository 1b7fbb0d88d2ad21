"""Captions from an OpenAI-compatible vision endpoint: POST BASE_URL/chat/completions with the image as a data URL."""

from __future__ import annotations

import base64
import io
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import orjson

from pertinent.captions.config import CaptionsConfig, EndpointConfig
from pertinent.captions.images import Picture
from pertinent.captions.web import Limits, WebError, request, with_retries
from pertinent.errors import ConfigError, ModelError

CHAT_PROMPT = (
    "Describe this image for a search engine in one plain sentence: the main things, their colour, material and style,"
    " and the setting. Name only what is seen. Do not begin with words such as 'The image shows'."
)
_MAX_ANSWER_BYTES = 1_000_000
_MIN_CALLS_TO_JUDGE = 8  # failed calls of one unit, and no good one, from which on the endpoint is held to be down
_JPEG_QUALITY = 90


class EndpointCaptioner:
    """Asks a server for one caption an image, several calls at a time."""

    def __init__(self, config: CaptionsConfig, *, seed: int, stop: threading.Event) -> None:
        """Raises ConfigError where the variable that should hold the key is not set."""
        assert config.endpoint is not None
        self._config, self._endpoint, self._stop = config, config.endpoint, stop
        self._prompt = config.prompt or CHAT_PROMPT
        self._seed = seed
        self._url = self._endpoint.base_url.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **_key(self._endpoint)}
        host = urlsplit(self._url).hostname or ""
        # The config names this host, so it may be local (vLLM beside us); no redirect is followed away from it.
        self._limits = Limits(
            "endpoint's answer", self._endpoint.timeout_s, _MAX_ANSWER_BYTES, allow_hosts=frozenset({host})
        )

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what is said of an image."""
        return endpoint_settings(self._config, self._seed)

    def caption(self, pictures: Sequence[Picture]) -> list[str | WebError]:
        """What the model says of each picture, or why it said nothing.

        Raises ConfigError for a refused key or an unknown path or model, ModelError where no call of many got through.
        """
        with ThreadPoolExecutor(self._endpoint.concurrency) as pool:
            futures = [pool.submit(self._try, picture) for picture in pictures]
            try:
                answers = [future.result() for future in futures]
            except BaseException:
                self._stop.set()  # those who wait before another try give up
                pool.shutdown(cancel_futures=True)
                raise
        failed = [answer for answer in answers if isinstance(answer, WebError) and answer.transient]
        if len(failed) == len(answers) >= _MIN_CALLS_TO_JUDGE:
            raise ModelError(
                f"{self._url}: none of {len(failed)} calls got through; the first: {failed[0]}; the same command continues"
            )
        return answers

    def _try(self, picture: Picture) -> str | WebError:
        body = orjson.dumps(self._body(picture))
        try:
            return with_retries(partial(self._ask, body), self._config.retry, self._stop)
        except WebError as error:
            if error.status in (401, 403, 404):  # no other row will fare better
                raise ConfigError(
                    f"endpoint: {self._url} with model {self._endpoint.model}: expected status 200, found {error.status};"
                    " look at endpoint.base_url, endpoint.model and endpoint.api_key_env"
                ) from None
            return error

    def _body(self, picture: Picture) -> dict[str, Any]:
        packed = io.BytesIO()
        picture.image.save(packed, "JPEG", quality=_JPEG_QUALITY)
        url = "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
        content = [{"type": "text", "text": self._prompt}, {"type": "image_url", "image_url": {"url": url}}]
        body = {
            "model": self._endpoint.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._config.max_new_tokens,
            "temperature": 0,
            "seed": self._seed,
            **self._endpoint.extra,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _ask(self, body: bytes) -> str:
        return _said(request("POST", self._url, self._limits, body=body, headers=self._headers))


def endpoint_settings(config: CaptionsConfig, seed: int) -> dict[str, Any]:
    """All that decides what an endpoint says of an image, its key aside."""
    assert config.endpoint is not None
    return {
        "endpoint": config.endpoint.base_url,
        "model": config.endpoint.model,
        "prompt": config.prompt or CHAT_PROMPT,
        "max_new_tokens": config.max_new_tokens,
        "extra": config.endpoint.extra,
        "seed": seed,
    }


def _said(answer: bytes) -> str:
    """The text in a chat completion. Raises a transient WebError where it is none."""
    try:
        message = orjson.loads(answer)["choices"][0]["message"]
        content = message.get("refusal") or message["content"]
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part.get("type") == "text")
        if isinstance(content, str):
            return content
        found = type(content).__name__
    except orjson.JSONDecodeError:
        found = "no JSON"
    except (LookupError, TypeError, AttributeError):
        found = "JSON of another form"
    raise WebError(f"endpoint's answer must be a chat completion with a text, got {found}", transient=True)


def _key(endpoint: EndpointConfig) -> dict[str, str]:
    if endpoint.api_key_env is None:
        return {}
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key:
        raise ConfigError(f"endpoint.api_key_env: environment variable {endpoint.api_key_env} is not set")
    return {"Authorization": f"Bearer {key}"}

"""Captions from an OpenAI-compatible vision endpoint, which is sent the image as a data URL."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Sequence
from typing import Any

from pertinent.captions.config import CaptionsConfig
from pertinent.captions.images import Picture
from pertinent.web.chat import ChatClient, first_choice, text_of
from pertinent.web.request import WebError

CHAT_PROMPT = (
    "Describe this image for a search engine in one plain sentence: the main things, their colour, material and style,"
    " and the setting. Name only what is seen. Do not begin with words such as 'The image shows'."
)
_JPEG_QUALITY = 90


class EndpointCaptioner:
    """Asks a server for one caption an image, several calls at a time."""

    def __init__(self, config: CaptionsConfig, *, seed: int, stop: threading.Event) -> None:
        """Raises ConfigError where the variable that should hold the key is not set."""
        assert config.endpoint is not None
        self._config, self._seed = config, seed
        self._prompt = config.prompt or CHAT_PROMPT
        self._client = ChatClient("endpoint", config.endpoint, config.retry, stop)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what is said of an image."""
        return endpoint_settings(self._config, self._seed)

    def caption(self, pictures: Sequence[Picture]) -> list[str | WebError]:
        """What the model says of each picture, or why it said nothing.

        Raises ConfigError for a refused key or an unknown path or model, ModelError where no call of many got through.
        """
        answers = self._client.each(self._try, pictures)
        self._client.require_life(answers)
        return answers

    def _try(self, picture: Picture) -> str | WebError:
        body = self._body(picture)
        try:
            return self._client.tried(lambda: text_of(first_choice(self._client.post(body))[1]))
        except WebError as error:
            return error

    def _body(self, picture: Picture) -> bytes:
        packed = io.BytesIO()
        picture.image.save(packed, "JPEG", quality=_JPEG_QUALITY)
        url = "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
        content = [{"type": "text", "text": self._prompt}, {"type": "image_url", "image_url": {"url": url}}]
        return self._client.body(
            {
                "messages": [{"role": "user", "content": content}],
                "max_tokens": self._config.max_new_tokens,
                "temperature": 0,
                "seed": self._seed,
            }
        )


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

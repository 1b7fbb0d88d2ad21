from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from PIL import Image

from pertinent.captions.config import CaptionsConfig
from pertinent.captions.endpoint import CHAT_PROMPT, EndpointCaptioner
from pertinent.captions.images import Picture
from pertinent.config import parse_config
from pertinent.errors import ConfigError, ModelError
from pertinent.web.request import WebError

PICTURES = [Picture(f"{k:064x}", Image.new("RGB", (24, 16), (20 * k, 100, 50))) for k in range(10)]


def captioner(server: Any, **changes: Any) -> EndpointCaptioner:
    endpoint = {"base_url": f"{server.url}/v1/", "model": "tiny", "timeout_s": 5, **changes.pop("endpoint", {})}
    retry = {"attempts": 3, "base_s": 0.01, "max_s": 0.02, **changes.pop("retry", {})}
    config = parse_config(CaptionsConfig, {"endpoint": endpoint, "retry": retry, **changes}, "x.yaml")
    return EndpointCaptioner(config, seed=7, stop=threading.Event())


def test_each_picture_is_sent_as_a_data_url_and_answered_in_order(server: Any) -> None:
    server.on_request = lambda: time.sleep(0.1)
    said = captioner(server, endpoint={"concurrency": 3}).caption(PICTURES)
    assert len(said) == 10
    for k, text in enumerate(said):
        assert isinstance(text, str)
        red = int(text.removeprefix("a box of r").partition(" ")[0])
        assert abs(red - 20 * k) <= 4  # JPEG loses a little
    assert 1 < server.most_at_once <= 3
    body = server.asked[0]
    assert (body["model"], body["temperature"], body["seed"], body["max_tokens"]) == ("tiny", 0, 7, 60)
    assert body["messages"][0]["content"][0] == {"type": "text", "text": CHAT_PROMPT}
    assert "Authorization" not in server.headers[0]


def test_the_request_can_be_changed(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_KEY", "secret ")
    extra = {"max_tokens": None, "max_completion_tokens": 9, "seed": None}
    made = captioner(server, prompt="What is it?", endpoint={"extra": extra, "api_key_env": "TINY_KEY"})
    made.caption(PICTURES[:1])
    body = server.asked[0]
    assert body["messages"][0]["content"][0]["text"] == "What is it?"
    assert body["max_completion_tokens"] == 9
    assert not {"max_tokens", "seed"} & body.keys()
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in str(made.settings)


@pytest.mark.parametrize("fault", [500, 503, "malformed", "cut", "reset", {"status": 429, "Retry-After": "0"}])
def test_a_passing_fault_costs_a_second_try(server: Any, fault: Any) -> None:
    server.faults["POST"] = [fault]
    assert isinstance(captioner(server).caption(PICTURES[:1])[0], str)
    assert len(server.asked) == 2


def test_retry_after_is_honoured(server: Any) -> None:
    server.faults["POST"] = [{"status": 429, "Retry-After": "1"}]
    assert isinstance(captioner(server).caption(PICTURES[:1])[0], str)
    assert server.times[1] - server.times[0] >= 1.0


@pytest.mark.parametrize(
    ("faults", "reason", "n_calls"),
    [
        ([500] * 9, "endpoint's answer must be answered with status 200, got 500", 3),
        (["malformed"] * 9, "endpoint's answer must be a chat completion with a text, got no JSON", 3),
        ([400], "endpoint's answer must be answered with status 200, got 400", 1),
        (
            [{"status": 302, "Location": "http://127.0.0.1:1/"}],
            "endpoint's answer must come after at most 0 redirects, got another one",
            1,
        ),
    ],
)
def test_a_lasting_fault_costs_its_picture_only(server: Any, faults: list[Any], reason: str, n_calls: int) -> None:
    server.faults["POST"] = faults
    made = captioner(server, endpoint={"concurrency": 1})
    said = made.caption(PICTURES[:1])
    assert isinstance(said[0], WebError)
    assert str(said[0]) == reason
    assert len(server.asked) == n_calls
    server.faults["POST"] = []
    assert isinstance(made.caption(PICTURES[1:2])[0], str)


def test_a_server_that_hangs_costs_the_time_limit(server: Any) -> None:
    server.faults["POST"] = ["hang"] * 2
    said = captioner(server, endpoint={"timeout_s": 0.2}, retry={"attempts": 2}).caption(PICTURES[:2])
    assert sum(isinstance(text, str) for text in said) >= 1
    assert len(server.asked) >= 3


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_an_unknown_model_ends_the_stage(server: Any, status: int) -> None:
    server.faults["POST"] = [status] * 99
    with pytest.raises(ConfigError) as error:
        captioner(server).caption(PICTURES)
    found = f"endpoint: {server.url}/v1/chat/completions with model tiny: expected status 200, found {status}"
    assert str(error.value).startswith(found)


def test_an_endpoint_that_is_down_ends_the_stage(server: Any) -> None:
    server.faults["POST"] = [503] * 99
    with pytest.raises(ModelError, match="none of 10 calls got through; the first: endpoint's answer must be"):
        captioner(server).caption(PICTURES)
    # Of a few calls nothing can be told.
    assert all(isinstance(said, WebError) for said in captioner(server).caption(PICTURES[:7]))


def test_an_unset_key_is_named(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINY_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"endpoint.api_key_env: environment variable TINY_KEY is not set"):
        captioner(server, endpoint={"api_key_env": "TINY_KEY"})

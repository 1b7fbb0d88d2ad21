from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from pertinent.bundle import open_bundle
from pertinent.errors import ConfigError
from pertinent.files import read_json, write_json
from pertinent.serving.app import create_app
from pertinent.serving.bundles import hash_of, recover, start
from pertinent.serving.server import serve
from pertinent.serving.settings import Settings, read_keys

IDS = [f"i{k}" for k in range(6)]
KEY = "a-key-of-sixteen-characters"
ADMIN = "an-admin-key-of-a-test"


@pytest.fixture
def client(bundles: tuple[Path, Path], tmp_path: Path) -> Iterator[TestClient]:
    yield from opened(bundles[0], tmp_path)


def opened(bundle: Path, control: Path, **settings: Any) -> Iterator[TestClient]:
    told = Settings(bundle=bundle, **settings)
    start(told, control)
    with TestClient(create_app(told, control), raise_server_exceptions=False) as client:
        yield client


def test_recovery_leaves_a_bundle_that_is_as_it_was_and_what_was_before_it(
    bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundles[0], tmp_path / "bundle"))
    told, control = Settings(bundle=folder), tmp_path / "control"
    start(told, control)
    committed = {**read_json(control / "committed.json"), "previous": {"hash": "of the one before"}}
    write_json(control / "committed.json", committed)
    recover(told, control)
    assert read_json(control / "committed.json") == committed
    (folder / "bundle.json").touch()
    recover(told, control)
    assert read_json(control / "committed.json")["generation"] == 2


def test_scores_over_http_are_those_of_the_bundle(client: TestClient, bundles: tuple[Path, Path]) -> None:
    asked = ["i3", "nowhere", "i0"]
    answer = client.post("/v1/score", json={"query": "red sofa", "item_ids": asked}).json()
    probs = open_bundle(bundles[0]).score("red sofa", asked)
    assert [item["item_id"] for item in answer["items"]] == asked
    assert answer["unknown"] == ["nowhere"]
    assert answer["degraded"]
    assert answer["items"][1] == {
        "item_id": "nowhere",
        "probabilities": None,
        "expected_grade": None,
        "relevance": None,
    }
    for place in (0, 2):
        item = answer["items"][place]
        p = probs[place].astype(float)
        assert item["probabilities"] == pytest.approx(p.tolist(), abs=1e-7)
        assert item["expected_grade"] == pytest.approx(1 * p[0] + 2 * p[1] + 3 * p[2])
        assert item["relevance"] == pytest.approx((p[1] + 3 * p[2]) / 3)  # gains 0, 1, 3
    assert answer["bundle"] == hash_of(bundles[0])


def test_batches_give_the_same_scores(bundles: tuple[Path, Path], tmp_path: Path, client: TestClient) -> None:
    body = {"query": "red sofa", "item_ids": [*IDS, "nowhere", *IDS]}
    whole = client.post("/v1/score", json=body).json()
    (tmp_path / "other").mkdir()
    for split in opened(bundles[0], tmp_path / "other", batch=4):
        parts = split.post("/v1/score", json=body).json()
    assert [item["item_id"] for item in parts["items"]] == body["item_ids"]
    for one, other in zip(whole["items"], parts["items"], strict=True):
        assert one["relevance"] == pytest.approx(other["relevance"], abs=1e-6)


def test_a_document_by_id_and_by_its_text_score_the_same(client: TestClient) -> None:
    documents = [{"id": "i0"}, "Red velvet sofa", {"id": "gone", "text": "Red velvet sofa"}, {"id": "gone"}]
    answer = client.post("/v1/rerank", json={"query": "red sofa", "documents": documents}).json()
    score = {result["index"]: result["relevance_score"] for result in answer["results"]}
    assert score[0] == pytest.approx(score[1], abs=1e-6)
    assert score[0] == pytest.approx(score[2], abs=1e-6)
    assert score[3] == 0.0
    assert score[0] > 0.0
    assert answer["meta"]["unknown"] == [3]
    assert answer["meta"]["degraded"]


def test_rerank_of_cohere_is_sorted_cut_and_returns_documents(client: TestClient) -> None:
    body = {
        "query": "lamp",
        "documents": ["Small lamp", "Blue sofa", "Oak table"],
        "top_n": 2,
        "return_documents": True,
    }
    for path in ("/v1/rerank", "/v2/rerank"):
        results = client.post(path, json={**body, "model": "any", "rank_fields": ["text"]}).json()["results"]
        assert len(results) == 2
        assert results[0]["relevance_score"] >= results[1]["relevance_score"]
        assert all(result["document"] == {"text": body["documents"][result["index"]]} for result in results)


def test_rerank_of_tei_gives_a_list_and_log_odds_when_raw(client: TestClient) -> None:
    body = {"query": "lamp", "texts": ["Small lamp", "Blue sofa"], "return_text": True, "truncate": True}
    plain = client.post("/rerank", json=body).json()
    raw = client.post("/rerank", json={**body, "raw_scores": True}).json()
    assert [rank["text"] for rank in plain] == [body["texts"][rank["index"]] for rank in plain]
    assert plain[0]["score"] >= plain[1]["score"]
    assert [rank["index"] for rank in raw] == [rank["index"] for rank in plain]
    for one, other in zip(plain, raw, strict=True):
        assert 1 / (1 + np.exp(-other["score"])) == pytest.approx(one["score"])


def test_rank_blends_and_explains(client: TestClient) -> None:
    engagement = [0.1, 0.9, 0.2, 0.4, 0.3, 0.5, 9.0]
    body = {"query": "red sofa", "item_ids": [*IDS, "nowhere"], "engagement": engagement, "explain": True}
    blend = {"kind": "weighted", "relevance_weight": 0.5, "engagement_weight": 2.0}
    answer = client.post("/v1/rank", json={**body, "blend": blend}).json()
    results = answer["results"]
    assert results[-1]["item_id"] == "nowhere"
    assert results[-1]["score"] is None
    assert "features" not in results[-1]
    known = results[:-1]
    assert [r["score"] for r in known] == sorted((r["score"] for r in known), reverse=True)
    for result in known:
        assert result["score"] == pytest.approx(0.5 * result["relevance"] + 2.0 * engagement[result["index"]])
        assert result["parts"]["engagement"] == engagement[result["index"]]
        assert len(result["features"]) == len(result["contributions"]) > 20
    # A feature that all candidates share cannot tell them apart.
    assert known[0]["contributions"]["query_log_terms"] == pytest.approx(0.0, abs=1e-6)
    assert any(abs(value) > 1e-4 for result in known for value in result["contributions"].values())


def test_rank_by_a_floor_puts_grades_first_then_engagement(client: TestClient) -> None:
    scores = client.post("/v1/score", json={"query": "red sofa", "item_ids": IDS}).json()["items"]
    at_least = [sum(item["probabilities"][1:]) for item in scores]
    probability = sorted(at_least)[3]  # three items at or above it
    engagement = [0.1, 0.9, 0.2, 0.4, 0.3, 0.5]
    blend = {"kind": "floor", "grade": 2, "probability": probability}
    body = {"query": "red sofa", "item_ids": IDS, "engagement": engagement, "blend": blend}
    order = [result["index"] for result in client.post("/v1/rank", json=body).json()["results"]]
    assert order == sorted(range(6), key=lambda k: (at_least[k] < probability, -engagement[k]))


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/score", b"{", 400, "body: Invalid JSON"),
        ("/v1/score", b"\xff\xfe", 400, "body: Invalid JSON"),
        ("/v1/score", b'{"query":"\\ud800","item_ids":["a"]}', 400, "body: Invalid JSON"),
        ("/v1/score", b"[" * 100_000, 400, "body: Invalid JSON"),
        ("/v1/score", b"{}", 422, "query: Field required"),
        ("/v1/score", b'{"query":"a","item_ids":[]}', 422, "item_ids: List should have at least 1 item"),
        ("/v1/score", b'{"query":"a","item_ids":["i0"],"x":1}', 422, "x: Extra inputs are not permitted"),
        ("/v1/score", b'{"query":"a","item_ids":["i0"],"engagement":[1,2]}', 422, "engagement: expected 1 scores"),
        ("/v1/rank", b'{"query":"a","item_ids":["i0"],"engagement":[NaN]}', 422, "engagement.0"),
        ("/v1/rank", b'{"query":"a","item_ids":["i0"],"blend":{"kind":"floor","grade":4}}', 422, "expected at most 3"),
        ("/v1/rerank", b'{"query":"a","documents":[{}]}', 422, "expected id or text, found neither"),
        ("/rerank", b'{"query":"a","texts":[7]}', 422, "texts.0"),
    ],
)
def test_a_bad_request_is_told_in_one_line(client: TestClient, path: str, body: bytes, status: int, said: str) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == status
    assert said in answer.json()["message"]
    assert "Traceback" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"query": "q" * 11, "item_ids": ["i0"]}, 422, "query: expected at most 10 characters, found 11"),
        ({"query": "q", "item_ids": IDS}, 422, "expected at most 5 candidates, found 6"),
        ({"query": "q", "item_ids": ["i" * 500] * 5}, 413, "body: expected at most 2,000 bytes"),
    ],
)
def test_limits(bundles: tuple[Path, Path], tmp_path: Path, body: Any, status: int, said: str) -> None:
    limits = {"max_query_characters": 10, "max_candidates": 5, "max_body_bytes": 2_000}
    for client in opened(bundles[0], tmp_path, **limits):
        # Streamed, so that no content-length tells the size beforehand.
        for content in (json.dumps(body).encode(), iter([json.dumps(body).encode()])):
            answer = client.post("/v1/score", content=content)
            assert (answer.status_code, answer.json()["message"]) == (status, said)


def test_keys(bundles: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERTINENT_API_KEYS", f"another-key-of-the-shop,{KEY}")
    monkeypatch.setenv("PERTINENT_ADMIN_KEYS", ADMIN)
    body = {"query": "lamp", "item_ids": ["i0"]}
    for client in opened(bundles[0], tmp_path):
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}, {"x-api-key": ADMIN}):
            assert client.post("/v1/score", json=body, headers=headers).status_code == 401
        for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
            assert client.post("/v1/score", json=body, headers=headers).status_code == 200
        assert client.get("/metrics").status_code == 401
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        assert client.get("/admin/bundle", headers={"x-api-key": KEY}).status_code == 401
        assert client.get("/admin/bundle", headers={"x-api-key": ADMIN}).json()["generation"] == 1


@pytest.mark.parametrize("bundle", ["nowhere", "a\u0000b", "a" * 300, "/dev/null", "\ud83d"])
def test_a_bundle_that_cannot_be_is_refused(
    bundles: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: str
) -> None:
    monkeypatch.setenv("PERTINENT_ADMIN_KEYS", ADMIN)
    for client in opened(bundles[0], tmp_path):
        body = json.dumps({"bundle": bundle}).encode()
        answer = client.post("/admin/reload", content=body, headers={"x-api-key": ADMIN})
        assert answer.status_code == (400 if bundle == "\ud83d" else 422), answer.text
        assert client.get("/admin/bundle", headers={"x-api-key": ADMIN}).json()["bundle"]["hash"] == hash_of(bundles[0])


def test_admin_is_closed_without_an_admin_key(client: TestClient) -> None:
    assert client.post("/admin/reload", json={}).status_code == 403


def test_keys_are_read_from_a_file_and_short_ones_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of the shop\n{KEY}  # in use\n\n")
    assert read_keys(file, "NONE") == (KEY.encode(),)
    file.write_text("short\n")
    with pytest.raises(ConfigError, match="expected keys of at least 16 characters"):
        read_keys(file, "NONE")
    file.write_text("# none\n")
    with pytest.raises(ConfigError, match="expected a key a line, found none"):
        read_keys(file, "NONE")


def test_beyond_loopback_needs_keys(bundles: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERTINENT_API_KEYS", raising=False)
    with pytest.raises(ConfigError, match="expected API keys"):
        serve(Settings(bundle=bundles[0]), host="0.0.0.0", port=0)


def test_metrics_count_what_was_asked(client: TestClient) -> None:
    client.post("/v1/score", json={"query": "lamp", "item_ids": ["i0", "nowhere", "i1"]})
    client.post("/v1/score", content=b"{")
    client.get("/secret-token-in-a-path")
    text = client.get("/metrics").text
    assert 'pertinent_requests_total{path="/v1/score",status="200"} 1.0' in text
    assert 'pertinent_requests_total{path="/v1/score",status="400"} 1.0' in text
    assert 'pertinent_requests_total{path="other",status="404"} 1.0' in text
    assert "secret" not in text
    assert "pertinent_unknown_items_total 1.0" in text
    assert "pertinent_candidates_sum 3.0" in text
    assert "pertinent_queue 0.0" in text


def test_metrics_count_the_features_that_were_missing(client: TestClient, bundles: tuple[Path, Path]) -> None:
    client.post("/v1/score", json={"query": "red sofa", "item_ids": ["nowhere", *IDS * 3]})
    scorer = open_bundle(bundles[0])
    # Every 16th of the known candidates is looked at: the first and the seventeenth, i0 and i4.
    rows = np.array([scorer.row_of["i0"], scorer.row_of["i4"]])
    missing = (scorer.inputs("red sofa", rows)[2] == 0).sum(axis=0)
    text = client.get("/metrics").text
    assert "pertinent_feature_candidates_total 2.0" in text
    for name, n in zip(scorer.feature_names, missing.tolist(), strict=True):
        assert (f'pertinent_feature_missing_total{{feature="{name}"}} {n}.0' in text) is (n > 0)
    assert 0 < np.count_nonzero(missing) < len(missing)


def test_a_bug_is_a_500_without_its_trace(client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr("pertinent.serving.answers.score_items", broken)
    answer = client.post("/v1/score", json={"query": "lamp", "item_ids": ["i0"]})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "the secret of the house" in capsys.readouterr().err


def test_the_access_log_has_no_query_unless_asked(
    bundles: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"query": "velvet underground", "item_ids": ["i0", "nowhere"]}
    for log_queries in (False, True):
        caplog.clear()
        control = tmp_path / str(log_queries)
        control.mkdir()
        with caplog.at_level("INFO", logger="pertinent.serving.access"):
            for client in opened(bundles[0], control, log_queries=log_queries):
                client.post("/v1/score", json=body)
        line = json.loads(caplog.messages[0])
        assert (line["path"], line["status"], line["candidates"], line["unknown"]) == ("/v1/score", 200, 2, 1)
        assert ("velvet" in caplog.text) is log_queries


def test_openapi_names_every_endpoint_and_resolves(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    from starlette.applications import Starlette

    assert isinstance(client.app, Starlette)
    assert set(document["paths"]) == {route.path for route in client.app.routes}  # type: ignore[attr-defined]
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]


def test_models_name_the_bundle(client: TestClient, bundles: tuple[Path, Path]) -> None:
    model = client.get("/v1/models").json()["data"][0]
    assert (model["bundle"], model["n_items"], model["n_grades"]) == (hash_of(bundles[0]), 6, 3)


@pytest.mark.parametrize("told", ["0", "-1", "1.5", "²", "9999999999", "x"])
def test_a_bad_deadline_is_refused(client: TestClient, told: str) -> None:
    headers = {"x-deadline-ms": told.encode()}
    answer = client.post("/v1/score", json={"query": "lamp", "item_ids": ["i0"]}, headers=headers)
    assert answer.status_code == 422
    assert "x-deadline-ms: expected 1-600000" in answer.json()["message"]

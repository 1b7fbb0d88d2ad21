"""Hostile requests against the real process: made from its own OpenAPI document, and bytes that are cut, flipped or nested."""

from __future__ import annotations

import gc
import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from servers import ADMIN, Server, agrees, asked, probabilities
from shops import ITEMS, Shop

Serve = Callable[..., Server]
SEED = 7
SCHEMATHESIS = "needs schemathesis, of the extra dev"


def test_150_requests_from_the_openapi_document_are_answered_as_it_says(
    serve: Serve, bundles: tuple[Path, Path]
) -> None:
    pytest.importorskip("schemathesis", reason=SCHEMATHESIS)
    server = serve(bundles[0], "--set", "access_log=false")
    assert from_the_document(server, 150) >= 150
    assert_right_answers(server, bundles[0])


def test_150_requests_of_hostile_bytes_never_give_a_500(serve: Serve, bundles: tuple[Path, Path]) -> None:
    server = serve(bundles[0], "--set", "access_log=false")
    assert hostile_bytes(server, 150) == []
    assert_right_answers(server, bundles[0])


def test_150_hostile_items_never_give_a_500_and_leave_the_others_as_they_were(
    serve: Serve, shop: Shop, tmp_path: Path
) -> None:
    server = serve(shop.bundle, "--store", tmp_path / "changes", "--set", "access_log=false")
    body = {"query": "red sofa", "item_ids": [item["item_id"] for item in ITEMS]}
    chance, statuses = random.Random(SEED), Counter[int]()
    with server.client(headers={"authorization": f"Bearer {ADMIN}"}) as client:
        before = client.post("/v1/score", json=body).json()
        for _ in range(150):
            item = {**chance.choice(ITEMS), "item_id": "hostile"}
            item |= {chance.choice(KEYS): chance.choice(VALUES) for _ in range(2)}
            answer = client.put("/v1/items", content=json.dumps({"items": [item]}))
            assert answer.status_code in (200, 422), (item, answer.text)
            statuses[answer.status_code] += 1
            asked_for = {"query": "red sofa", "item_ids": ["hostile"]}
            assert client.post("/v1/score", json=asked_for).status_code == 200
        assert set(statuses) == {200, 422}
        assert client.post("/v1/score", json=body).json() == before


KEYS = sorted({key for item in ITEMS for key in item} - {"item_id"} | {"numeric.price", "image", "language", "", "a"})
VALUES: list[Any] = [None, True, -1, 2**63, 2**70, 1e308, float("inf"), "", "a", "x" * 70_000, "\0", "\U0001f600" * 100]
VALUES += [[], {}, [1], ["a", 1], [None], [[]], {"a": 1}, {"price": "x"}, {"price": None}, [0.1, 0.2], [0.1] * 3]
VALUES += [[{"title": "a", "count": "x"}], [{"query": "a", "weight": -1}]]


@pytest.mark.slow
def test_10_000_hostile_requests_give_no_500_no_growth_and_no_wrong_answer_after(
    serve: Serve, bundles: tuple[Path, Path]
) -> None:
    pytest.importorskip("schemathesis", reason=SCHEMATHESIS)
    server = serve(bundles[0], "--set", "access_log=false")
    hostile_bytes(server, 1_000)
    from_the_document(server, 1_000)
    before = resident_bytes(server)
    assert hostile_bytes(server, 4_000) == []
    from_the_document(server, 4_000)
    assert_right_answers(server, bundles[0])
    assert resident_bytes(server) - before < 20_000_000


def from_the_document(server: Server, n: int) -> int:
    """Send about ``n`` valid and invalid requests to the operations of the document; the number sent.

    Each answer must have a status, a content type and a body that the document names, and none may be a 5xx.
    """
    import requests
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    wanted = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
    wanted.append(checks.response_schema_conformance)
    sent = 0
    with requests.Session() as session:
        session.trust_env = False
        session.headers["authorization"] = f"Bearer {ADMIN}"

        def send(case: Any) -> None:
            nonlocal sent
            sent += 1
            case.call_and_validate(base_url=server.url, session=session, checks=wanted, timeout=20)

        schema = schemathesis.openapi.from_dict(session.get(server.url + "/openapi.json").json())
        operations = [found.ok() for found in schema.get_all_operations()]
        with_body = [operation for operation in operations if operation.body]
        for operation in operations:
            if operation.body:
                for mode in schemathesis.GenerationMode:
                    run(operation.as_strategy(generation_mode=mode), send, math.ceil(n / len(with_body) / 2))
            else:
                run(operation.as_strategy(), send, 1)
    return sent


def run(cases: Any, send: Callable[[Any], None], n: int) -> None:
    settings = hypothesis.settings(
        max_examples=n,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    settings(hypothesis.given(cases)(lambda case: send(case)))()


def hostile_bytes(server: Server, n: int) -> list[str]:
    """Bodies that are cut, flipped, spliced or nested, to every path; returns the answers that are wrong."""
    chance = random.Random(SEED)
    paths = ["/v1/score", "/v1/rank", "/v1/rerank", "/v2/rerank", "/rerank", "/admin/reload", "/healthz", "/%00"]
    wrong = []
    with server.client() as client:
        for _ in range(n):
            body = hostile_body(chance)
            kind = chance.choice(["application/json", "text/plain", "multipart/form-data"])
            method, path = chance.choice(["POST", "POST", "POST", "PUT", "GET"]), chance.choice(paths)
            answer = client.request(method, path, content=body, headers={"content-type": kind})
            if answer.status_code >= 500 or "Traceback" in answer.text:
                wrong.append(f"{answer.status_code} for {method} {path} {body[:200]!r}")
    return wrong


def hostile_body(chance: random.Random) -> bytes:
    body = bytearray(chance.choice(BODIES))
    kind = chance.randrange(5)
    if kind == 0:
        body = body[: chance.randrange(len(body))]
    elif kind == 1:
        for _ in range(chance.randrange(1, 8)):
            body[chance.randrange(len(body))] = chance.randrange(256)
    elif kind == 2:
        body = body[:10] + b"[" * chance.randrange(3_000) + body[10:]
    elif kind == 3:
        at = chance.randrange(len(body))
        body[at:at] = chance.choice([b"\x00", b"null", b"1e999", b"-0", b'"\\ud800"', b"{}", b"9" * 400])
    return bytes(body)


BODIES = [
    b'{"query":"red sofa","item_ids":["i0","i1"],"engagement":[1e308,-1e308],"context":{"a":1}}',
    b'{"query":"\xe2\x80\xae","documents":["a",{"id":"i0"}],"top_n":1}',
    b'{"query":"a","texts":["' + b"\xf0\x9f\xa6\x9c" * 500 + b'"],"raw_scores":true}',
    b'{"query":"a","item_ids":["i0"],"engagement":[1e308],"blend":{"kind":"product","engagement_weight":1000}}',
]


def assert_right_answers(server: Server, bundle: Path) -> None:
    with server.client() as client:
        assert agrees(asked(client), probabilities(bundle))
        # By the server's own count too.
        assert 'status="500"' not in client.get("/metrics").text


def resident_bytes(server: Server) -> int:
    gc.collect()
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in server.workers()]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")

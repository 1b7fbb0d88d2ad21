"""Clients of others, unchanged, against the real process: `pip install 'pertinent[clients]'`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pertinent.bundle import open_bundle
from pertinent.serving.scoring import relevance_of
from servers import Server

# What they warn of among themselves is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

Serve = Callable[..., Server]
KEY = "a-key-of-sixteen-characters"
TEXTS = ["Small lamp", "Red velvet sofa", "Blue sofa"]  # items i4, i0, i3


def wanted(bundle: Path) -> list[tuple[int, float]]:
    """Index and relevance, best first, by the bundle itself."""
    relevance = relevance_of(open_bundle(bundle).score("red sofa", ["i4", "i0", "i3"])).tolist()
    return sorted(enumerate(relevance), key=lambda pair: -pair[1])


def same(found: list[tuple[int, float]], bundle: Path, top: int = 3) -> bool:
    expected = wanted(bundle)[:top]
    assert [index for index, _ in found] == [index for index, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)
    return True


@pytest.mark.parametrize("kind", ["Client", "ClientV2"])
def test_the_cohere_sdk(serve: Serve, bundles: tuple[Path, Path], kind: str) -> None:
    cohere = pytest.importorskip("cohere", reason="needs the extra clients")
    server = serve(bundles[0], PERTINENT_API_KEYS=KEY)
    client = getattr(cohere, kind)(api_key=KEY, base_url=server.url)
    answer = client.rerank(model="any", query="red sofa", documents=TEXTS, top_n=2)
    assert same([(result.index, result.relevance_score) for result in answer.results], bundles[0], 2)


def test_the_cohere_sdk_is_told_of_a_wrong_key(serve: Serve, bundles: tuple[Path, Path]) -> None:
    cohere = pytest.importorskip("cohere", reason="needs the extra clients")
    server = serve(bundles[0], PERTINENT_API_KEYS=KEY)
    client = cohere.ClientV2(api_key="wrong", base_url=server.url)
    with pytest.raises(cohere.errors.UnauthorizedError):
        client.rerank(model="any", query="red sofa", documents=TEXTS)


def test_langchain(serve: Serve, bundles: tuple[Path, Path]) -> None:
    langchain_cohere = pytest.importorskip("langchain_cohere", reason="needs the extra clients")
    from langchain_core.documents import Document

    server = serve(bundles[0], PERTINENT_API_KEYS=KEY)
    ranker = langchain_cohere.CohereRerank(cohere_api_key=KEY, base_url=server.url, model="any", top_n=3)
    found = ranker.compress_documents([Document(page_content=text) for text in TEXTS], "red sofa")
    ranked = [(TEXTS.index(one.page_content), one.metadata["relevance_score"]) for one in found]
    assert same(ranked, bundles[0])


def test_llamaindex(serve: Serve, bundles: tuple[Path, Path]) -> None:
    tei = pytest.importorskip("llama_index.postprocessor.tei_rerank", reason="needs the extra clients")
    from llama_index.core.schema import NodeWithScore, TextNode

    server = serve(bundles[0], PERTINENT_API_KEYS=KEY)
    ranker = tei.TextEmbeddingInference(base_url=server.url, top_n=3, auth_token=f"Bearer {KEY}")
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    found = ranker.postprocess_nodes(nodes, query_str="red sofa")
    assert same([(TEXTS.index(one.node.get_content()), one.score) for one in found], bundles[0])

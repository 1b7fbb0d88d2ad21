"""How large a Pinboard to make."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PinboardSize:
    """Counts of what is generated; the default is the frozen Pinboard.

    n_items: items, a share english_share of them English, the rest split evenly over the other languages.
    n_train_queries, n_dev_queries: human-judged queries, in English only. n_test_queries: the same in each language.
    n_candidates: judged items a query. n_log_queries: distinct queries of the log. n_results: impressions a page.
    n_users: searchers in the log.
    """

    n_items: int = 2400
    english_share: float = 0.35
    n_train_queries: int = 200
    n_dev_queries: int = 30
    n_test_queries: int = 30
    n_candidates: int = 16
    n_log_queries: int = 1500
    n_results: int = 10
    n_users: int = 400

    @classmethod
    def tiny(cls) -> PinboardSize:
        """A Pinboard for tests: the same in every respect but its size."""
        return cls(
            n_items=150,
            n_train_queries=24,
            n_dev_queries=5,
            n_test_queries=5,
            n_candidates=8,
            n_log_queries=80,
            n_results=8,
            n_users=40,
        )

    def per_language(self, total: int, languages: tuple[str, ...]) -> dict[str, int]:
        """A total split over the languages: English its share, the others evenly, what remains to English."""
        others = [code for code in languages if code != "en"]
        each = int(total * (1 - self.english_share)) // len(others)
        return {code: total - each * len(others) if code == "en" else each for code in languages}

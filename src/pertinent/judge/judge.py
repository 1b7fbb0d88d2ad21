"""Labels pairs as a teacher does, by asking a chat endpoint for each pair's grade."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pertinent.errors import RowsError, StoppedError
from pertinent.files import cache_folder, settings_folder, sha256_of_json
from pertinent.judge.answers import AnswerError, grade_of, grade_probs, usage_of
from pertinent.judge.config import JudgeConfig
from pertinent.judge.ledger import Ledger
from pertinent.judge.pace import Pace
from pertinent.judge.prompt import Prompt
from pertinent.judge.store import AnswerStore
from pertinent.progress import Progress
from pertinent.types import Scale
from pertinent.web.chat import ChatClient, first_choice, text_of
from pertinent.web.request import WebError

SPEND_FILE = "spend.jsonl"
_BATCH = 64  # pairs, or more where more calls run at a time, after which is looked whether the endpoint answers at all
_MIN_TO_JUDGE = 8
_TOKENS_A_MESSAGE = 16  # role and separators of a chat template: more than any known one needs
_TIMED_OUT = (408, 502, 504, 524)  # of a gateway that gave up: the server behind it may have done the work
_REFUSED = (400, 422)  # what a server says to a field that it does not know, such as logprobs

Probs = NDArray[np.float32]


class Judge:
    """A Labeller (`labelling.engine`) behind an endpoint. teacher_id: the model and a hash of all that decides an answer."""

    def __init__(self, config: JudgeConfig, scale: Scale, out: Path, *, seed: int) -> None:
        """out: the folder of labels, where spend.jsonl keeps what was spent on them, over every start.

        Raises ConfigError for a template or key that cannot be used, DataError for a folder that cannot be written.
        """
        self._config, self._seed = config, seed
        self._prompt = Prompt(config.template, scale)
        self._stop = threading.Event()
        self._client = ChatClient("labels.judge.endpoint", config.endpoint, config.retry, self._stop)
        self._pace = Pace(config.requests_per_minute, config.tokens_per_minute)
        self._ledger = Ledger(out / SPEND_FILE, config)
        settings = self._settings()
        self.teacher_id = f"{config.endpoint.model}@{sha256_of_json(settings)[:12]}"
        self._store = AnswerStore(settings_folder(config.cache or cache_folder() / "judge", settings))
        # Whether the server gives log-probabilities: not known before its first answer.
        self._has_logprobs: bool | None = False if config.method == "samples" else None
        self._n_known = 0

    @property
    def counts(self) -> dict[str, Any]:
        """calls, input_tokens, output_tokens and usd of every start; answers_known: taken from the cache in this one.

        logprobs: whether the server gives them; None where this start asked it nothing.
        """
        return {**self._ledger.counts, "answers_known": self._n_known, "logprobs": self._has_logprobs}

    def score(self, queries: Sequence[str], texts: Sequence[str], progress: Progress | None = None) -> Probs:
        """(N, n) float32 probabilities of the grades, lowest first.

        Raises RowsError where some pairs have none, with a reason each; StoppedError at the spend limit, or where no
        call of many got through or gave a grade; ConfigError for a refused key or an unknown model.
        """
        answers: list[Probs | Exception] = []
        size = max(_BATCH, 4 * self._config.endpoint.concurrency)
        for start in range(0, len(queries), size):
            pairs = list(zip(queries[start : start + size], texts[start : start + size], strict=True))
            answer_of: dict[tuple[str, str], Probs | Exception] = {
                pair: kept for pair in pairs if (kept := self._store.get(*pair)) is not None
            }
            unknown = [pair for pair in dict.fromkeys(pairs) if pair not in answer_of]
            found = self._client.each(self._kept, unknown)
            self._require_sense(found)
            self._n_known += len(pairs) - len(unknown)
            answer_of.update(zip(unknown, found, strict=True))
            answers += [answer_of[pair] for pair in pairs]
            if progress is not None:
                progress.advance(len(pairs), note=f"${self._ledger.usd:.2f}" if self._ledger.usd else "")
        n_grades = len(self._prompt.symbols)
        missing = np.full(n_grades, np.nan, dtype=np.float32)
        probs = [missing if isinstance(answer, Exception) else answer for answer in answers]
        table = np.stack(probs) if probs else np.empty((0, n_grades), dtype=np.float32)
        reasons = [str(answer) if isinstance(answer, Exception) else None for answer in answers]
        if any(reason is not None for reason in reasons):
            raise RowsError(table, reasons)
        return table

    def _settings(self) -> dict[str, Any]:
        """All that decides an answer. The address is not in it: a model may move."""
        fields = {"method", "top_logprobs", "samples", "temperature", "max_tokens"}
        endpoint = {"model": self._config.endpoint.model, "extra": self._config.endpoint.extra}
        told = self._config.model_dump(mode="json", include=fields)
        return {**told, **endpoint, "prompt": self._prompt.digest, "seed": self._seed}

    def _require_sense(self, answers: Sequence[Probs | Exception]) -> None:
        self._client.require_life(answers)
        senseless = [answer for answer in answers if isinstance(answer, AnswerError)]
        if len(senseless) == len(answers) >= _MIN_TO_JUDGE:
            raise StoppedError(f"judge: none of {len(answers)} answers was a grade; the first: {senseless[0]}")

    def _kept(self, pair: tuple[str, str]) -> Probs | Exception:
        """A pair's answer, which the store has from then on, or why there is none."""
        try:
            probs = self._asked(self._prompt.messages(*pair))
        except (WebError, AnswerError) as error:
            return error
        self._store.add(*pair, probs)
        return probs

    def _asked(self, messages: list[dict[str, str]]) -> Probs:
        if self._has_logprobs is False:
            return self._sampled(messages)
        try:
            probs = self._by_logprobs(messages)
        except WebError as error:
            # A field that the server does not know, or a pair that it does not like: sampling tells which.
            if error.status not in _REFUSED or self._config.method == "logprobs" or self._has_logprobs:
                raise
            probs = None
        if probs is not None:
            self._has_logprobs = True
            return probs
        if self._config.method == "logprobs":
            raise AnswerError("the answer must come with log-probabilities (judge.method: logprobs), got none")
        sampled = self._sampled(messages)
        if self._has_logprobs is None:
            self._has_logprobs = False
        return sampled

    def _by_logprobs(self, messages: list[dict[str, str]]) -> Probs | None:
        asked = {"logprobs": True, "top_logprobs": self._config.top_logprobs}
        _, choice = self._graded(messages, asked, 0, (self._seed, self._seed + 1))
        return grade_probs(choice.get("logprobs"), self._prompt.symbols)

    def _sampled(self, messages: list[dict[str, str]]) -> Probs:
        """Shares of the grades among the sampled answers."""
        n = self._config.samples
        temperature = self._config.temperature if n > 1 else 0
        counts = np.zeros(len(self._prompt.symbols), dtype=np.float32)
        for seed in range(self._seed, self._seed + n):
            grade, _ = self._graded(messages, {}, temperature, (seed, seed + n))
            counts[grade] += 1
        shares: Probs = counts / counts.sum()
        return shares

    def _graded(
        self, messages: list[dict[str, str]], fields: dict[str, Any], temperature: float, seeds: tuple[int, int]
    ) -> tuple[int, dict[str, Any]]:
        """The grade of an answer, and its choice. What is no grade is asked for once more, then raised as AnswerError."""
        try:
            choice = self._call(messages, {**fields, "temperature": temperature, "seed": seeds[0]})
            return grade_of(text_of(choice), self._prompt.symbols), choice
        except AnswerError:  # at temperature 0 it would say the same again
            choice = self._call(messages, {**fields, "temperature": self._config.temperature, "seed": seeds[1]})
            return grade_of(text_of(choice), self._prompt.symbols), choice

    def _call(self, messages: list[dict[str, str]], fields: dict[str, Any]) -> dict[str, Any]:
        """The first choice of an answer, within the rates and the spend limit, tried again where that may help."""
        body = self._client.body({"messages": messages, "max_tokens": self._config.max_tokens, **fields})
        # No tokenizer makes more tokens than there are bytes.
        most = sum(len(message["content"].encode()) + _TOKENS_A_MESSAGE for message in messages)
        return self._client.tried(lambda: self._attempt(body, most, self._config.most_output_tokens))

    def _attempt(self, body: bytes, most_input: int, most_output: int) -> dict[str, Any]:
        if self._stop.wait(self._pace.book(most_input + most_output)):
            raise WebError("the call must be made before the work stops, got a stop")
        call = self._ledger.book(most_input, most_output)
        try:
            return self._paid(body, call, most_input + most_output)
        finally:
            self._ledger.end(call)

    def _paid(self, body: bytes, call: int, most: int) -> dict[str, Any]:
        try:
            answer = self._client.post(body)
        except WebError as error:
            if error.status is not None and error.status not in _TIMED_OUT:  # the work was not done, and is not billed
                self._ledger.settle(call, 0, 0)
                self._pace.correct(-most)
            if error.retry_after_s is not None:
                self._pace.hold(min(error.retry_after_s, self._config.retry.max_retry_after_s))
            raise
        document, choice = first_choice(answer)
        used = usage_of(document)
        if used is not None:
            self._ledger.settle(call, *used)
            self._pace.correct(sum(used) - most)
        text_of(choice)  # an answer without a text is tried again
        return choice

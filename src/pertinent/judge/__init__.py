"""A large language model behind a chat endpoint as the teacher: the graded guideline is its prompt."""

from pertinent.judge.config import JudgeConfig
from pertinent.judge.judge import Judge

__all__ = ["Judge", "JudgeConfig"]

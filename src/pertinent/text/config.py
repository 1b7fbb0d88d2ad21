"""Configuration of the text stage."""

from __future__ import annotations

from pydantic import Field, model_validator

from pertinent.config import Config


class FieldConfig(Config):
    """One field of the item text."""

    name: str = Field(description="a column of items.parquet: a standard field or an attribute")
    tokens: int = Field(ge=1, description="budget of its value, in the teacher's tokens")


_DEFAULT_FIELDS = (
    ("title", 32),
    ("description", 24),
    ("captions", 16),
    ("boards", 16),
    ("engaged_queries", 16),
    ("link_title", 12),
    ("link_description", 12),
)
ATTRIBUTE_TOKENS = 10  # of each attribute of the data set, where the config names no fields


class TextConfig(Config):
    """Which fields the teacher reads, in which order, and how much of each.

    The order and kinds of field are the paper's (arXiv 2410.17152, section 3); the budgets are ours.
    """

    fields: tuple[FieldConfig, ...] = Field(
        default=tuple(FieldConfig(name=name, tokens=tokens) for name, tokens in _DEFAULT_FIELDS), min_length=1
    )
    max_tokens: int = Field(default=80, ge=8, description="tokens of the whole text, tags included")
    drop_repeats: bool = Field(
        default=True, description="leave out of a field what an earlier field says (the rule: text/repeats.py)"
    )

    @model_validator(mode="after")
    def _distinct(self) -> TextConfig:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"fields: a field is named twice in {', '.join(names)}")
        return self

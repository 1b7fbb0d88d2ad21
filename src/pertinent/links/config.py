"""Configuration of the links stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pertinent.config import Config
from pertinent.data.columns import ColumnConfig


class PagesConfig(ColumnConfig):
    """Where the saved pages are. Nothing is fetched. Limits are ours."""

    holds: Literal["name", "path", "html", "url"] = Field(
        default="name",
        description="name: pages are folder/ITEM_ID.html; else what `column` holds: a path in `folder`, the HTML itself, "
        "or the URL of a page in the `warc` files",
    )
    column: str | None = Field(default=None, description="column of paths, of HTML (text or bytes), or of URLs")
    folder: Path | None = Field(default=None, description="where page files lie (names and paths; .gz is unpacked)")
    warc: tuple[Path, ...] = Field(default=(), description="WARC files, .warc or .warc.gz, read in this order")
    max_bytes: int = Field(default=2_000_000, ge=1_000, description="of one page that are read; the rest is left")

    @model_validator(mode="after")
    def _fit(self) -> PagesConfig:
        if (self.column is None) != (self.holds == "name"):
            found = "none" if self.column is None else f"column {self.column}"
            raise ValueError(f"column: expected one unless pages.holds is name, found {found} with holds: {self.holds}")
        if self.holds in ("name", "path") and self.folder is None:
            raise ValueError(f"folder: missing; holds: {self.holds} needs the folder of the pages")
        if (self.holds == "url") != bool(self.warc):
            raise ValueError(
                f"warc: expected WARC files with holds: url alone, found {len(self.warc)} files with {self.holds}"
            )
        return self


class LinksConfig(Config):
    """Title and description of the page that an item links to. Sizes are ours; the paper gives none."""

    pages: PagesConfig
    max_title_chars: int = Field(default=200, ge=8, description="a longer title is cut at a word")
    max_description_chars: int = Field(
        default=600, ge=8, description="of all parts together; the last is cut at a word"
    )
    lead_chars: int = Field(default=400, ge=0, description="of the main text's beginning that may be used; 0: none")
    unit_pages: int = Field(default=512, ge=1, description="table rows a unit of work: the most that a kill can cost")
    workers: int = Field(default=1, ge=1, description="processes; a page takes about 10 ms")

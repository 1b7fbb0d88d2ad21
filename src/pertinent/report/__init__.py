"""Run folder -> one self-contained HTML page. Reads files only: knows no model."""

from pertinent.report.label_page import write_label_report
from pertinent.report.page import GENERATED_BANNER, write_report

__all__ = ["GENERATED_BANNER", "write_label_report", "write_report"]

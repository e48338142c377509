"""One self-contained page: typed data first, then HTML."""

from __future__ import annotations

from multigrain.report.data import ReportData
from multigrain.report.load import load_report_data
from multigrain.report.render import render_report, write_report, write_shared_report

__all__ = ["ReportData", "load_report_data", "render_report", "write_report", "write_shared_report"]

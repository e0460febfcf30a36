"""One page about one run or many: run folders in, a single HTML file out."""

from proximo.runs.report.export import as_numbers, write_table
from proximo.runs.report.groups import Study, study_of
from proximo.runs.report.page import page
from proximo.runs.report.read import find_runs, read_run

__all__ = ["Study", "as_numbers", "find_runs", "page", "read_run", "study_of", "write_table"]

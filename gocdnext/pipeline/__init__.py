"""The pipeline language: text in, normal form or problems out. Nothing in this package does I/O."""

from __future__ import annotations

from gocdnext.pipeline.applicable import check_applicable, check_file, check_set
from gocdnext.pipeline.model import Pipeline
from gocdnext.pipeline.parser import ParsedFile, parse, parse_file, parse_files
from gocdnext.pipeline.problems import PipelineError, Problem

__all__ = [
    "ParsedFile",
    "Pipeline",
    "PipelineError",
    "Problem",
    "check_applicable",
    "check_file",
    "check_set",
    "parse",
    "parse_file",
    "parse_files",
]

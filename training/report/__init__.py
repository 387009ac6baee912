"""The robustness report: `schema` says what a run must leave behind, `build.build_report` makes one page of it."""

"""Builds the report of a run: one page that needs no network, made only from the files of that run."""

from __future__ import annotations

from html import escape
from pathlib import Path

from fermo.errors import FermoError
from fermo.training.files import write_text
from fermo.training.report import schema, sections
from fermo.training.run_folder import RunFolder

REPORT = "report.html"


def build_report(run_folder: Path | str) -> Path:
    """Write ``report.html`` into a run folder.

    Args:
        run_folder: A `RunFolder` that holds every record of `fermo.training.report.schema` and both videos.

    Returns:
        Where the page is.

    Raises:
        FermoError: A file is missing or not as declared; names it. Nothing is written then.
    """
    run = RunFolder.open(run_folder)
    headline = schema.load(run.path, schema.Headline)
    colours = sections.colours_of(headline)
    body = [
        sections.opening(headline),
        sections.success(headline, colours),
        sections.robustness(schema.load(run.path, schema.Robustness), colours),
        sections.certificate(schema.load(run.path, schema.Certificate)),
        sections.paired(schema.load(run.path, schema.PairedSweep)),
        sections.deployment(schema.load(run.path, schema.Deployment)),
        sections.videos(_video(run.path / schema.SIM_VIDEO), _video(run.path / schema.TWIN_VIDEO)),
        sections.differences(schema.load(run.path, schema.Differences)),
        sections.training(schema.load(run.path, schema.Training), colours),
        sections.made_by(run.provenance, run.config),
    ]
    page = run.path / REPORT
    write_text(page, _page(f"{headline.task}: robustness report", "".join(body)))
    return page


def _page(title: str, body: str) -> str:
    here = Path(__file__)
    style, script = (here.with_name(name).read_text(encoding="utf-8") for name in ("style.css", "hover.js"))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>\n{style}</style></head>\n'
        f'<body>{body}<div id="tip" role="status"></div><script>\n{script}</script></body></html>\n'
    )


def _video(path: Path) -> bytes:
    """An MP4's bytes; its first box must be ``ftyp`` (ISO/IEC 14496-12), which a truncated or empty file lacks."""
    if not path.is_file():
        raise FermoError(f"the report needs {path}, which does not exist; run again the stage that writes it")
    content = path.read_bytes()
    if content[4:8] != b"ftyp":
        raise FermoError(f"{path} is not an MP4 file; run again the stage that writes it")
    return content

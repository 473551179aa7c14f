"""What Sphinx calls when it has built the book: the pages of records and sources, beside the book's own, and copies of the records."""

import shutil
from pathlib import Path

from deepdefense.storage import files, paths

from .. import provenance
from . import code_pages, mends, reading_order, records, run_list, run_page

MATHJAX = "mathjax/startup.js"  # loads the parts that _config.yml names, and not the megabyte of all of them
STYLE = Path("_static", "records.css")  # not in book/_static, of which every style sheet is loaded by every page of the book


def write(site: Path, results: Path | None = None) -> list[Path]:
    """Write all of it into the folder of a built site; results: folder of the records (default: the committed ones)."""
    found = records.read_all(results or paths.results_root())
    written = [files.write_bytes(site / provenance.run_page(record.name), run_page.of(record).encode()) for record in found]
    written.append(files.write_bytes(site / provenance.RUNS / "index.html", run_list.of(found).encode()))
    for record in found:
        for path in record.files:
            target = site / run_page.FILES / path.relative_to(record.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    sources = provenance.code_files()
    for path, file in sources.items():
        written.append(files.write_bytes(site / provenance.code_page(path), code_pages.of(path, file).encode()))
    written.append(files.write_bytes(site / provenance.CODE / "index.html", code_pages.index(sources).encode()))
    style = Path(__file__).with_name(STYLE.name).read_text(encoding="utf-8")
    files.write_bytes(site / STYLE, (style + code_pages.style()).encode())
    return written


def finish(app, error) -> None:
    """After a build of HTML that went well."""
    if error is None and app.builder.format == "html":
        mends.mend(Path(app.outdir))
        write(Path(app.outdir))


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("build-finished", finish)
    app.add_post_transform(reading_order.CodeBelow)
    app.config.mathjax_path = MATHJAX
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Show the executed copy of every notebook in the place of its source; refuse an unfinished one.

Pages keep the name of the source (notebooks/NN_name), so that links to Colab, to the source and to
the download are those of the file in the repository; only the content comes from build/executed (or
INSTAB_EXECUTED). A missing, failed or stale copy is a warning, and the book is built with warnings
as errors.
"""

import json
import os
from html import escape
from pathlib import Path

from docutils.parsers.rst.directives.tables import CSVTable
from sphinx.util import logging

from instab_utils.book.one_notebook import unfinished

log = logging.getLogger(__name__)


def executed_folder(app) -> Path:
    return Path(os.environ.get("INSTAB_EXECUTED") or Path(app.srcdir) / "build" / "executed")


def read_executed(app, docname, source):
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb":
        return
    executed = executed_folder(app) / f"{docname}.ipynb"
    app.env.note_dependency(str(executed))
    if not executed.exists():
        log.warning("%s has no executed copy in %s", docname, executed.parent)
        return
    notebook = json.loads(executed.read_text("utf-8"))
    if problem := unfinished(notebook):
        log.warning("the executed copy of %s failed: %s", docname, problem)
    if cells(notebook) != cells(json.loads(path.read_text("utf-8"))):
        log.warning(
            "the executed copy of %s is stale: its cells are not those of the source", docname
        )
    for cell in notebook["cells"]:
        if "injected-parameters" in tags(cell):
            # the line under the title says what was run
            cell["metadata"]["tags"].append("remove-cell")
    first = notebook["cells"][0]
    title, newline, rest = "".join(first["source"]).partition("\n")
    first["source"] = (
        f"{title}\n\n{provenance_line(notebook['metadata'].get('instab', {}))}\n{newline}{rest}"
    )
    source[0] = json.dumps(notebook)


def tags(cell) -> list[str]:
    return cell["metadata"].get("tags", [])


def cells(notebook) -> list[tuple[str, str]]:
    """Type and source of every cell of the source notebook, papermill's own additions left out."""
    return [
        (cell["cell_type"], "".join(cell["source"]))
        for cell in notebook["cells"]
        if not {"injected-parameters", "papermill-error-cell-tag"} & set(tags(cell))
    ]


def provenance_line(facts: dict) -> str:
    if not facts:
        return ""
    parameters = dict(facts["parameters"])
    words = [
        f"profile {parameters.pop('profile')}",
        *(f"{name} = {value}" for name, value in parameters.items()),
        facts["device"],
        f"data: {facts['data']}",
        f"{facts['minutes']:.1f} min",
        f"{facts['peak_gb']:.1f} GB",
        facts["finished"][:10],
        f"torch {facts['torch']}",
    ]
    return f'<p class="provenance">Ran with: {escape(" · ".join(words))}</p>'


def page_scripts(app, pagename, templatename, context, doctree):
    """Load plotly.js where a figure needs it; never thebe, which would need a remote kernel."""
    if "script_files" in context:
        context["script_files"][:] = [s for s in context["script_files"] if not is_thebe(s)]
    if "plotly-graph-div" in (context.get("body") or ""):
        app.add_js_file("vendor/plotly.min.js", priority=100)  # before the figures' inline scripts


def is_thebe(script) -> bool:
    words = f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {})}"
    return "thebe" in words.lower()


class StatusTable(CSVTable):
    """The table of minutes and memory of this build, as the execution wrote it."""

    has_content = False

    def run(self):
        env = self.state.document.settings.env
        path = executed_folder(env.app) / "status.csv"
        if not path.exists():
            log.warning("no %s: execute the notebooks first", path)
            return []
        self.options.update(
            {
                "file": os.path.relpath(path, Path(env.doc2path(env.docname)).parent),
                "header-rows": 1,
            }
        )
        return super().run()


def setup(app):
    app.connect("source-read", read_executed)
    app.connect("html-page-context", page_scripts)
    app.add_directive("status-table", StatusTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

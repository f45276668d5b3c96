"""The directive {data-licences}: every folder of public files with its licence and its origin, from
the package's registry.
"""

from urllib.parse import urlsplit

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from instab_utils import data


class DataLicences(SphinxDirective):
    has_content = False

    def run(self):
        groups = {}  # (folder, licence) -> [files, bytes, origin]
        for file in data.files():
            folder = file.path.rsplit("/", 1)[0]
            entry = groups.setdefault((folder, file.licence), [0, 0, origin(file.url)])
            entry[0] += 1
            entry[1] += file.n_bytes
        rows = [
            (folder, str(n), f"{size / 1e6:.1f}", licence, where)
            for (folder, licence), (n, size, where) in groups.items()
        ]
        return [table(["folder", "files", "MB", "licence", "from"], rows)]


def origin(url: str) -> str:
    """Host, and for a repository its name: "raw.githubusercontent.com/owner/name/..." ->
    "github.com/owner/name".
    """
    parts = urlsplit(url)
    if parts.netloc.endswith("githubusercontent.com"):
        return "github.com/" + "/".join(parts.path.split("/")[1:3])
    return parts.netloc


def table(heads: list[str], rows: list[tuple]) -> nodes.table:
    def line(cells):
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))

    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in heads), cols=len(heads))
    group += [nodes.thead("", line(heads)), nodes.tbody("", *map(line, rows))]
    return nodes.table("", group, classes=["data-licences"])


def setup(app):
    app.add_directive("data-licences", DataLicences)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The chapters' sources, notebooks/NN_name.py, and the notebooks that are generated from them."""

from pathlib import Path

from . import colab

ROOT = Path(__file__).resolve().parents[2]


class BookError(RuntimeError):
    """The book, or a notebook of it, cannot be built; the message says which and why."""


def scripts(root: Path = ROOT) -> list[Path]:
    """Return the chapters' sources, notebooks/NN_name.py, in reading order."""
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.py"))


def notebook_text(script: Path) -> str:
    """Return the .ipynb of a py:percent script: no outputs, the same bytes every time.

    Colab's cell stands before the first code.
    """
    import jupytext
    import nbformat

    notebook = jupytext.read(script)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for index, cell in enumerate(notebook.cells):
        cell.id = f"c{index:02d}"
    code = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    notebook.cells.insert(code[0] if code else len(notebook.cells), colab.cell())
    return nbformat.writes(notebook) + "\n"


def sync(root: Path = ROOT, check: bool = False) -> list[Path]:
    """Write every notebook that differs from its script; return those written.

    One way on purpose: a tool that decides by modification time takes the older text after a clone.

    Args:
        root: the project.
        check: write nothing; raise BookError naming the notebooks that differ.
    """
    texts = {script.with_suffix(".ipynb"): notebook_text(script) for script in scripts(root)}
    present = {path: path.read_text("utf-8") for path in (root / "notebooks").glob("*.ipynb")}
    changed = [path for path, text in texts.items() if present.get(path) != text]
    orphans = [path for path in present if path not in texts]
    if check and (changed or orphans):
        names = ", ".join(path.name for path in changed + orphans)
        raise BookError(
            f"not generated from the present scripts: {names}. "
            "Run: python -m instab_utils.book sync"
        )
    for path in changed:
        path.write_text(texts[path], "utf-8")
    for path in orphans:
        path.unlink()
    return changed

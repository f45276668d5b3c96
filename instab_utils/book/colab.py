"""The first code cell of every notebook: in Colab it brings the package, elsewhere nothing."""

ADDRESS = "https://github.com/instab-utils/instab-utils"

# Plain Python, no magics: sweeps parse the cells. "torch==..." names the torch that is there, so
# that pip cannot replace it.
CELL = f'''\
# @title Only in Colab: fetch the package with its results, install what is missing, keep the
# PyTorch that is there
import importlib.util

if importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"):
    import os
    import subprocess
    import sys
    from importlib.metadata import version

    if not os.path.exists("instab-utils"):
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", "{ADDRESS}"], check=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", f"torch=={{version('torch')}}"]
    subprocess.run([*install, "--editable", "./instab-utils[chapters]"], check=True)
    sys.path.insert(0, os.path.abspath("instab-utils"))'''


def cell():
    """Return the cell as nbformat's, hidden in the book and folded in Colab."""
    import nbformat

    return nbformat.v4.new_code_cell(
        CELL, id="colab", metadata={"tags": ["colab", "remove-cell"], "cellView": "form"}
    )

"""The directive {package-api}: the public names of every room, their signatures and docstrings, read from the source as it is.

No room is imported and no docstring is taken for markup: formulas such as ||A x - y||^2 stand there as written.
"""

import ast
import inspect
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import instab_utils

ROOMS = ("operators metrics data networks solvers training uncertainty attacks shifts audit report profiles store "
         "figures widgets sweep book").split()


def public(module: ast.Module, only: set[str]) -> list[ast.stmt]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node for node in module.body if isinstance(node, kinds) and not node.name.startswith("_")
            and ast.get_docstring(node) and (not only or node.name in only)]


def signature(node) -> str:
    if isinstance(node, ast.FunctionDef):
        arguments = ast.unparse(node.args)
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    else:
        init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        fields = [ast.unparse(n) for n in node.body if isinstance(n, ast.AnnAssign)]
        arguments, returns = (ast.unparse(init.args) if init else ", ".join(fields)), ""
    return f"{node.name}({arguments.removeprefix('self, ').removeprefix('self')}){returns}"


def entry(node, module: str) -> str:
    text = ast.get_docstring(node)
    for method in public(node, set()) if isinstance(node, ast.ClassDef) else []:
        text += f"\n\n.{signature(method)}\n{inspect.cleandoc(ast.get_docstring(method))}"
    first = text.split("\n\n")[0].replace("\n", " ")
    return (f'<details class="api" id="{module}.{node.name}"><summary><code>{escape(node.name)}</code> {escape(first)}</summary>'
            f"<pre>{escape(signature(node))}\n\n{escape(text)}</pre></details>")


def room_entries(place: Path, note_dependency) -> tuple[str, str]:
    """Purpose of a room (its docstring's first paragraph) and the HTML of its public names."""
    package, home = place.is_dir(), f"instab_utils.{place.name}"
    front = ast.parse((place / "__init__.py" if package else place.with_suffix(".py")).read_text("utf-8"))
    offered = {}  # submodule -> names that the package offers from it; empty: all
    for node in front.body if package else []:
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or f"{node.module}.".startswith(f"{home}.")):
            module = (node.module or "").removeprefix(home).removeprefix(".")
            for alias in node.names:
                offered.setdefault(module or alias.name, set()).update([alias.name] if module else [])
    parts = []
    for name, names in offered.items() or [("", set())]:
        path = place / f"{name}.py" if name else place.with_suffix(".py")
        if path.exists():
            note_dependency(str(path))
            where = home if names or not name else f"{home}.{name}"  # re-exported names are reached through the room
            parts += [entry(node, where) for node in public(ast.parse(path.read_text("utf-8")), names)]
    return (ast.get_docstring(front) or "").split("\n\n")[0].replace("\n", " "), "\n".join(parts)


class PackageApi(SphinxDirective):
    """One section a room that exists, from left to right."""

    def run(self):
        sections = []
        for room in ROOMS:
            place = Path(instab_utils.__file__).parent / room
            if not place.is_dir() and not place.with_suffix(".py").exists():
                continue
            purpose, entries = room_entries(place, self.env.note_dependency)
            section = nodes.section("", nodes.title("", room), nodes.paragraph("", purpose), nodes.raw("", entries, format="html"),
                                    ids=[f"instab_utils-{room}"], names=[room])
            sections.append(section)
        return sections


def setup(app):
    app.add_directive("package-api", PackageApi)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

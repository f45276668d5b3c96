"""The directive {package-api}: the public names of every room, their signatures and docstrings,
read from the source as it is.

No room is imported and no docstring is taken for markup: formulas such as ||A x - y||^2 stand there
as written.
"""

import ast
import inspect
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import instab_utils

# from left to right; a room that is not named here comes last
ORDER = [
    *("profiles", "store", "operators", "metrics", "data", "networks", "solvers", "training"),
    *("uncertainty", "fields", "attacks", "shifts", "stability"),
    *("figures", "widgets", "sweep", "book", "papers", "audit", "report"),
]


def rooms(package: Path) -> list[Path]:
    """Every room that exists, as the place of its package or module, from left to right."""
    places = [path.parent for path in package.glob("*/__init__.py")]
    places += [path.with_suffix("") for path in package.glob("[!_]*.py")]
    position = {name: k for k, name in enumerate(ORDER)}
    return sorted(places, key=lambda place: (position.get(place.name, len(ORDER)), place.name))


def public(module: ast.Module, only: set[str]) -> list[ast.stmt]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [
        node
        for node in module.body
        if isinstance(node, kinds)
        and not node.name.startswith("_")
        and ast.get_docstring(node)
        and (not only or node.name in only)
    ]


def signature(node) -> str:
    if isinstance(node, ast.FunctionDef):
        arguments = ast.unparse(node.args)
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    else:
        init = next(
            (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None
        )
        fields = [ast.unparse(n) for n in node.body if isinstance(n, ast.AnnAssign)]
        arguments, returns = (ast.unparse(init.args) if init else ", ".join(fields)), ""
    return f"{node.name}({arguments.removeprefix('self, ').removeprefix('self')}){returns}"


def entry(node, module: str) -> str:
    """One public name: its first sentence, and folded away the signature, the docstring and those
    of its methods.
    """
    if isinstance(node, ast.Assign):
        name, shown, text = node.targets[0].id, ast.unparse(node), "A constant."
    else:
        name, shown, text = node.name, signature(node), ast.get_docstring(node) or ""
    for method in public(node, set()) if isinstance(node, ast.ClassDef) else []:
        text += f"\n\n.{signature(method)}\n{inspect.cleandoc(ast.get_docstring(method))}"
    first = text.split("\n\n")[0].replace("\n", " ")
    return (
        f'<details class="api" id="{module}.{name}">'
        f"<summary><code>{escape(name)}</code> {escape(first)}</summary>"
        f"<pre>{escape(shown)}\n\n{escape(text)}</pre></details>"
    )


def module_of(node: ast.ImportFrom, path: Path) -> Path:
    """The file that `from ... import` in this file reads from; one that need not exist for packages
    of others.
    """
    here = (
        [*path.parents][node.level - 1] if node.level else Path(instab_utils.__file__).parent.parent
    )
    place = here.joinpath(*(node.module or "").split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def named(path: Path, names: set[str], note_dependency) -> list[ast.stmt]:
    """The definitions of these names, constants too, in this file or where it has them from."""
    note_dependency(str(path))
    module = ast.parse(path.read_text("utf-8"))
    found = {
        getattr(node, "name", None) or node.targets[0].id: node
        for node in module.body
        if getattr(node, "name", None) in names
        or isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in names
    }
    nodes_found = list(found.values())
    for node in module.body:
        passed_on = (
            {alias.name for alias in node.names if alias.name in names - set(found)}
            if isinstance(node, ast.ImportFrom)
            else set()
        )
        if passed_on and (source := module_of(node, path)).exists():
            nodes_found += named(source, passed_on, note_dependency)
    return nodes_found


def room_entries(place: Path, note_dependency, home: str = "") -> tuple[str, str]:
    """Purpose of a room (its docstring's first paragraph) and the HTML of its public names."""
    home = home or f"instab_utils.{place.name}"
    package = (place / "__init__.py").exists()
    source = place / "__init__.py" if package else place.with_suffix(".py")
    note_dependency(str(source))
    front = ast.parse(source.read_text("utf-8"))
    purpose = (ast.get_docstring(front) or "").split("\n\n")[0].replace("\n", " ")
    if not package:
        return purpose, "\n".join(entry(node, home) for node in public(front, set()))
    stated = next(
        (
            set(ast.literal_eval(node.value))
            for node in front.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ),
        None,
    )
    # rooms inside the room, and the modules it offers whole
    inner = {path.parent.name for path in place.glob("*/__init__.py")}
    parts = []
    for node in front.body:
        if isinstance(node, ast.ImportFrom) and (file := module_of(node, source)).exists():
            names = {
                alias.name
                for alias in node.names
                if stated is None or (alias.asname or alias.name) in stated
            }
            if file == source:  # modules and rooms offered whole
                inner.update(
                    name
                    for name in names
                    if (place / f"{name}.py").exists() or (place / name).is_dir()
                )
            elif stated is not None or place in file.parents:
                parts += [entry(found, home) for found in named(file, names, note_dependency)]
    own = (stated or set()) - {
        alias.name
        for node in front.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    parts += [entry(found, home) for found in named(source, own, note_dependency)] if own else []
    for name in sorted(inner):
        about, inside = room_entries(place / name, note_dependency, f"{home}.{name}")
        parts.append(
            f'<p id="{home}.{name}"><code>{escape(name)}</code>: {escape(about)}</p>\n{inside}'
        )
    return purpose, "\n".join(parts)


class PackageApi(SphinxDirective):
    """One section a room that exists, from left to right."""

    def run(self):
        sections = []
        for place in rooms(Path(instab_utils.__file__).parent):
            purpose, entries = room_entries(place, self.env.note_dependency)
            sections.append(
                nodes.section(
                    "",
                    nodes.title("", place.name),
                    nodes.paragraph("", purpose),
                    nodes.raw("", entries, format="html"),
                    ids=[f"instab_utils-{place.name}"],
                    names=[place.name],
                )
            )
        return sections


def setup(app):
    app.add_directive("package-api", PackageApi)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The directive {package-api}: the public names of every room, their signatures and docstrings.

No docstring is taken for markup: formulas such as ||A x - y||^2 stand there as written.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
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
    """Return every room that exists, as the place of its package or module, left to right."""
    places = [path.parent for path in package.glob("*/__init__.py")]
    places += [path.with_suffix("") for path in package.glob("[!_]*.py")]
    position = {name: k for k, name in enumerate(ORDER)}
    return sorted(places, key=lambda place: (position.get(place.name, len(ORDER)), place.name))


def room_entries(place: Path, note_dependency) -> tuple[str, str]:
    """Return the purpose of a room (its docstring's first paragraph) and its names as HTML."""
    for path in place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]:
        note_dependency(str(path))
    module = importlib.import_module(f"instab_utils.{place.name}")
    return first_paragraph(module), module_entries(module, module.__name__)


def module_entries(module, home: str) -> str:
    return "\n".join(entry(name, home, module) for name in public_names(module))


def public_names(module) -> list[str]:
    """Return `__all__`, or what the module defines and imports from the package; inner packages."""
    tree = ast.parse(inspect.getsource(module))
    names = list(getattr(module, "__all__", ()))
    for node in tree.body if not names else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom) and node.level and hasattr(module, "__path__"):
            names += [alias.asname or alias.name for alias in node.names]
    inner = pkgutil.iter_modules(getattr(module, "__path__", ()))
    names += [package.name for package in inner if package.ispkg]
    return [name for name in dict.fromkeys(names) if not name.startswith("_")]


def entry(name: str, home: str, module) -> str:
    """Return one name: its first sentence, and folded away its signature and documentation."""
    value = getattr(module, name, None)
    if value is None:
        value = importlib.import_module(f"{module.__name__}.{name}")
    if inspect.ismodule(value):
        inside = module_entries(value, f"{home}.{name}")
        about = f"<code>{escape(name)}</code>: {escape(first_paragraph(value))}"
        return f'<p id="{home}.{name}">{about}</p>\n{inside}'
    if inspect.isfunction(value) or inspect.isclass(value):
        shown, text = f"{name}{signature(value)}", inspect.getdoc(value) or ""
    else:
        constant = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
        shown, text = f"{name} = {textwrap.shorten(constant, 500)}", "A constant."
    for method in methods(value):
        text += f"\n\n.{method.__name__}{signature(method)}\n{inspect.getdoc(method)}"
    first = text.split("\n\n")[0].replace("\n", " ")
    return (
        f'<details class="api" id="{home}.{name}">'
        f"<summary><code>{escape(name)}</code> {escape(first)}</summary>"
        f"<pre>{escape(shown)}\n\n{escape(text)}</pre></details>"
    )


def methods(value) -> list:
    """Return the public, documented methods that a class defines itself."""
    own = vars(value).values() if inspect.isclass(value) else ()
    own = [getattr(member, "__func__", member) for member in own]
    return [m for m in own if inspect.isfunction(m) and m.__name__[0] != "_" and m.__doc__]


def signature(value) -> str:
    """Return the arguments as written, without `self` and without addresses of objects."""
    try:
        text = str(inspect.signature(value))
    except ValueError:
        return ""
    text = re.sub(r"^\(self(?:, )?", "(", text)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def first_paragraph(module) -> str:
    return (inspect.getdoc(module) or "").split("\n\n")[0].replace("\n", " ")


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

"""Read torch.export archives (.pt2) without running code: each member checked, then rebuilt."""

import ast
import io
import json
import re
import zipfile

import torch

from .errors import WrongFile

RENEW = (
    "Export it again: torch.export.save(torch.export.export(model.eval(), (y,)), path), "
    "or save model.state_dict() as safetensors."
)
NAME = re.compile(r"(?!(.*\.)?__)[A-Za-z0-9_.]{0,400}")
OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file|save|load|__)[a-z_A-Z0-9]+(\.(?!__)[A-Za-z_0-9]+)?"
    r"|torch\.ops\.aten\.__i?(and|or|xor|lshift|rshift)__\.(?!__)[A-Za-z_]+"
    r"|torch\.ops\.higher_order\.(cond|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|ge|le|gt|lt|and_|or_|getitem)"
    r"|math\.(ceil|floor|trunc|sqrt)"
    r"|torch\.sym_(int|float|max|min|not|ite|sqrt)|torch\._sym_sqrt"
)
FUNCTIONS = re.compile(
    "Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Abs|Mod|FloorDiv|ModularIndexing|PythonMod"
    "|CleanDiv|CeilToInt|FloorToInt|CeilDiv|PowByNatural|IntTrueDiv|FloatTrueDiv|TruncToInt"
    "|ToFloat|Identity|Equality|Unequality|GreaterThan|LessThan|StrictGreaterThan"
    "|StrictLessThan|Eq|Ne"
)
ARITHMETIC = (
    *(ast.Expression, ast.Call, ast.Name, ast.Load, ast.keyword, ast.Constant),
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop),
)
SYMBOL = re.compile(r"z?[a-z]{1,2}\d{1,9}|\d{1,20}(\.\d{1,30})?|int_oo")
MODE = re.compile(r"[a-zA-Z_ ,.>-]{0,60}")
"""Text such as "reflect", "mean", "ortho", the equation of an einsum."""
CONTAINERS = {"builtins.tuple", "builtins.list", "builtins.dict", None}
MODEL = "models/model.json"


def exported_program(content: bytes, device: torch.device) -> torch.nn.Module:
    """Return the module of a .pt2 archive, on `device`.

    `torch.export.load` alone is no safe reader: it unpickles sample inputs, constants and custom
    objects, evaluates sizes with `sympify`, executes the archive's guards, and calls whatever a
    node names under `torch.`. What is guaranteed here:

    - the archive is read once, and only a copy rebuilt from its checked members is given to torch's
      loader;
    - nothing is unpickled: sample inputs are left out; weights and constants must be raw numbers,
      pickled ones and custom objects are refused; compiled code (AOTInductor) and archives of
      PyTorch before 2.8 are refused;
    - every node calls an operator of `aten`, `prims`, or integer arithmetic, none that touches
      files; names are names, sizes are arithmetic of symbols and integers; guards, stack traces and
      other metadata, which end up in executed source, are left out.

    The export's check of the inputs' shapes stays. Memory and time are not bounded.

    Raises:
        WrongFile: saying which member, what was expected, what it is, and the cure.
    """
    members = _members(content)
    models = [name for name in members if name.startswith("models/")]
    if models != [MODEL]:
        raise WrongFile(f"one exported program, {MODEL}", ", ".join(models[:4]) or "none", RENEW)
    program = _json(members, MODEL)
    if not isinstance(program, dict) or not isinstance(program.get("graph_module"), dict):
        raise WrongFile(f"an exported program in {MODEL}", type(program).__name__, RENEW)
    program["guards_code"] = []
    program["graph_module"]["metadata"] = {}
    _check(program, "program", device)
    kept = {MODEL: json.dumps(program).encode(), "data/sample_inputs/model.pt": b""}
    for folder, prefix in (("weights", "weight_"), ("constants", "tensor_")):
        kept |= _numbers(members, folder, prefix, device)
    return _load(kept)


def _members(content: bytes) -> dict[str, bytes]:
    """Members by name, without the archive's own folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            members = {name.partition("/")[2]: archive.read(name) for name in names}
    except (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, OSError) as error:
        got = f"{type(error).__name__}: {error}"
        raise WrongFile("a zip archive written by torch.export.save", got, RENEW) from None
    if "serialized_exported_program.json" in names:
        expected = "an archive written by torch.export.save of PyTorch 2.8 or newer"
        raise WrongFile(expected, "the older format, whose tensors are pickled", RENEW)
    for name in members:
        if "aotinductor" in name or name.endswith((".so", ".dll", ".pyd", ".cubin")):
            raise WrongFile("a graph of operators", f"compiled code ({name})", RENEW)
    return members


def _json(members, name):
    try:
        return json.loads(members[name])
    except (KeyError, ValueError, RecursionError) as error:
        got = f"{type(error).__name__}: {str(error)[:80]}"
        raise WrongFile(f"readable JSON in {name}", got, RENEW) from None


def _numbers(members, folder: str, prefix: str, device: torch.device) -> dict[str, bytes]:
    """Return the members of weights or constants: raw numbers only."""
    config = f"data/{folder}/model_{folder}_config.json"
    payload = _json(members, config)
    kept = {}
    try:
        for name, entry in payload["config"].items():
            file = str(entry["path_name"])
            if entry["use_pickle"] is not False or not re.fullmatch(prefix + r"\d{1,6}", file):
                raise WrongFile(
                    f"raw numbers as {folder}",
                    f"{name!r} pickled or as an object ({file})",
                    "Keep custom objects and tensor subclasses out of the exported model.",
                )
            member = f"data/{folder}/{file}"
            if member not in members:
                raise WrongFile(f"a member {member}", "none", "Copy it again.")
            kept[member] = members[member]
    except (KeyError, TypeError, AttributeError) as error:
        got = f"{type(error).__name__}: {str(error)[:80]}"
        raise WrongFile(f"a list of {folder} in {config}", got, RENEW) from None
    _check(payload, folder, device)
    return kept | {config: json.dumps(payload).encode()}


def _check(value, key: str, device: torch.device) -> None:
    """Check every string below `value`; devices are set to `device`."""
    if isinstance(value, list):
        for item in value:
            _check(item, key, device)
    elif isinstance(value, str):
        _check_text(value, key)
    if not isinstance(value, dict):
        return
    if "metadata" in value and "target" in value:
        value["metadata"] = {}
    if value.keys() == {"type", "index"} and isinstance(value["type"], str):
        value.update(type=device.type, index=device.index)
    for name, item in value.items():
        if not NAME.fullmatch(name):
            raise WrongFile("names of letters, digits, dots", f"{name[:60]!r} in {key}", RENEW)
        if name == "as_custom_obj" and item is not None:
            got = f"a custom object in {key}"
            raise WrongFile("tensors and numbers as arguments", got, RENEW)
        if name == "treespec_namedtuple_fields" and item:
            expected = "tensors, tuples, lists and dictionaries as inputs and outputs"
            raise WrongFile(expected, "a named tuple", RENEW)
        is_call = name == "target" and isinstance(value.get("inputs"), list)
        _check(item, "as_operator" if is_call else name, device)


def _check_text(text: str, key: str) -> None:
    if key == "expr_str":
        _check_size(text)
    elif key in ("in_spec", "out_spec"):
        _check_tree(text)
    elif key == "as_operator":
        if not OPERATORS.fullmatch(text):
            expected = "operators of PyTorch's aten and prims that touch no files"
            raise WrongFile(expected, f"a call of {text[:60]!r}", RENEW)
    elif key == "as_string":
        if not MODE.fullmatch(text):
            expected = "the name of a mode as text, such as 'reflect'"
            raise WrongFile(expected, repr(text[:60]), RENEW)
    elif key != "torch_version" and not NAME.fullmatch(text):
        raise WrongFile("a name of letters, digits, dots", f"{text[:60]!r} as {key}", RENEW)


def _check_size(text: str) -> None:
    """Check that a size, which torch evaluates, is arithmetic."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval"))) if len(text) < 4000 else [None]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        nodes = [None]
    if not all(map(_is_arithmetic, nodes)):
        expected = "sizes that are arithmetic of symbols and integers"
        raise WrongFile(expected, repr(text[:60]), RENEW)


def _is_arithmetic(node: ast.AST | None) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and bool(FUNCTIONS.fullmatch(node.func.id))
    if isinstance(node, ast.Name):
        return bool(FUNCTIONS.fullmatch(node.id) or SYMBOL.fullmatch(node.id))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return bool(SYMBOL.fullmatch(node.value))
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | int | float)
    return isinstance(node, ARITHMETIC)


def _check_tree(text: str) -> None:
    """Check that inputs and outputs are in plain containers: others name modules to import."""
    if not text:
        return
    try:
        nodes = [json.loads(text)[1]]
        while nodes:
            node = nodes.pop()
            names = json.loads(node["context"] or "null") or []
            named = all(isinstance(name, str) and NAME.fullmatch(name) for name in names)
            if node["type"] not in CONTAINERS or not named:
                raise ValueError(f"a container {node['type']}")
            nodes += node["children_spec"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        expected = "tensors in tuples, lists and dictionaries as inputs and outputs"
        raise WrongFile(expected, str(error)[:80], RENEW) from None


def _load(members: dict[str, bytes]) -> torch.nn.Module:
    from torch.export.pt2_archive._package import PT2ArchiveWriter

    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, data in members.items():
            writer.write_bytes(name, data)
    buffer.seek(0)
    try:
        program = torch.export.load(buffer)
    except Exception as error:
        expected = f"a program that PyTorch {torch.__version__} can read"
        got = f"{type(error).__name__}: {str(error)[:200]}"
        raise WrongFile(expected, got, RENEW) from error
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for i, argument in enumerate(schema.arguments if schema else []):
            value = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name)
            if argument.name in ("train", "training") and value is True:
                raise WrongFile(
                    "a network exported for use",
                    f"one exported while training ({node.name})",
                    "Call model.eval() before torch.export.export.",
                )
    module = program.module(check_guards=False)
    for part in module.modules():
        part.training = False  # the graph is fixed; torch leaves the flag at True
    module.eval = lambda: module  # torch's own raises, even where there is nothing to change
    return module

"""A torch.export archive (.pt2) read so that nothing in it can run code: checked member by member,
then rebuilt.
"""

import ast
import io
import json
import re
import zipfile

import torch

from .wrong import WrongFile

RENEW = "Export it again: torch.export.save(torch.export.export(model.eval(), (y,)), path), or save model.state_dict() as safetensors."
NAME = re.compile(r"(?!(.*\.)?__)[A-Za-z0-9_.]{0,400}")
OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file|save|load|__)[a-z_A-Z0-9]+(\.(?!__)[A-Za-z_0-9]+)?"
    r"|torch\.ops\.aten\.__i?(and|or|xor|lshift|rshift)__\.(?!__)[A-Za-z_]+"
    r"|torch\.ops\.higher_order\.(cond|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|ge|le|gt|lt|and_|or_|getitem)|math\.(ceil|floor|trunc|sqrt)"
    r"|torch\.sym_(int|float|max|min|not|ite|sqrt)|torch\._sym_sqrt"
)
FUNCTIONS = {
    "Symbol",
    "Integer",
    "Float",
    "Rational",
    "Add",
    "Mul",
    "Pow",
    "Max",
    "Min",
    "Abs",
    "Mod",
    "FloorDiv",
    "ModularIndexing",
    "PythonMod",
    "CleanDiv",
    "CeilToInt",
    "FloorToInt",
    "CeilDiv",
    "PowByNatural",
    "IntTrueDiv",
    "FloatTrueDiv",
    "TruncToInt",
    "ToFloat",
    "Identity",
    "Equality",
    "Unequality",
    "GreaterThan",
    "LessThan",
    "StrictGreaterThan",
    "StrictLessThan",
    "Eq",
    "Ne",
}
ARITHMETIC = (
    ast.Expression,
    ast.Call,
    ast.Name,
    ast.Load,
    ast.keyword,
    ast.Constant,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
)
SYMBOL = re.compile(r"z?[a-z]{1,2}\d{1,9}|\d{1,20}(\.\d{1,30})?|int_oo")
WORDS = re.compile(r"[a-zA-Z_ ,.>-]{0,60}")  # "reflect", "mean", "ortho", the equation of an einsum
TREES = {"builtins.tuple", "builtins.list", "builtins.dict", None}


def exported_program(path, content: bytes, device: torch.device) -> torch.nn.Module:
    """The module of a .pt2 archive, on `device`.

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
    members = _members(path, content)
    models = [name for name in members if name.startswith("models/")]
    if models != ["models/model.json"]:
        raise WrongFile(
            path, "one exported program, models/model.json", ", ".join(models[:4]) or "none", RENEW
        )
    program = _json(path, members, "models/model.json")
    if not isinstance(program, dict) or not isinstance(program.get("graph_module"), dict):
        raise WrongFile(
            path, "an exported program in models/model.json", type(program).__name__, RENEW
        )
    program["guards_code"] = []
    program["graph_module"]["metadata"] = {}
    _check(path, program, "program", device)
    kept = {"models/model.json": json.dumps(program).encode(), "data/sample_inputs/model.pt": b""}
    for folder, prefix in (("weights", "weight_"), ("constants", "tensor_")):
        config = f"data/{folder}/model_{folder}_config.json"
        payload = _json(path, members, config)
        for name, entry in payload["config"].items():
            file = str(entry["path_name"])
            if entry["use_pickle"] is not False or not re.fullmatch(prefix + r"\d{1,6}", file):
                raise WrongFile(
                    path,
                    f"raw numbers as {folder}",
                    f"{name!r} pickled or as an object ({file})",
                    "Keep custom objects and tensor subclasses out of the exported model.",
                )
            if f"data/{folder}/{file}" not in members:
                raise WrongFile(path, f"a member data/{folder}/{file}", "none", "Copy it again.")
            kept[f"data/{folder}/{file}"] = members[f"data/{folder}/{file}"]
        _check(path, payload, folder, device)
        kept[config] = json.dumps(payload).encode()
    return _load(path, kept)


def _members(path, content: bytes) -> dict[str, bytes]:
    """Members without the archive's own folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            members = {name.partition("/")[2]: archive.read(name) for name in names}
    except (
        zipfile.BadZipFile,
        RuntimeError,
        NotImplementedError,
        EOFError,
        ValueError,
        OSError,
    ) as error:
        raise WrongFile(
            path,
            "a zip archive written by torch.export.save",
            f"{type(error).__name__}: {error}",
            RENEW,
        ) from None
    if "serialized_exported_program.json" in names:
        raise WrongFile(
            path,
            "an archive written by torch.export.save of PyTorch 2.8 or newer",
            "the older format, whose tensors are pickled",
            RENEW,
        )
    compiled = [
        name
        for name in members
        if "aotinductor" in name or name.endswith((".so", ".dll", ".pyd", ".cubin"))
    ]
    if compiled:
        raise WrongFile(path, "a graph of operators", f"compiled code ({compiled[0]})", RENEW)
    return members


def _json(path, members, name):
    try:
        found = json.loads(members[name])
        if "config" in name and any(
            not {"path_name", "use_pickle"} <= entry.keys() for entry in found["config"].values()
        ):
            raise ValueError("not a list of weights")
        return found
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WrongFile(
            path, f"readable JSON in {name}", f"{type(error).__name__}: {str(error)[:80]}", RENEW
        ) from None


def _check(path, value, key: str, device: torch.device) -> None:
    """Every string below `value` is what it should be; devices are set to `device`."""
    if isinstance(value, dict):
        if "metadata" in value and "target" in value:
            value["metadata"] = {}
        if value.keys() == {"type", "index"} and isinstance(value["type"], str):
            value.update(type=device.type, index=device.index)
        for name, item in value.items():
            if not NAME.fullmatch(name):
                raise WrongFile(
                    path, "names of letters, digits, dots", f"{name[:60]!r} in {key}", RENEW
                )
            if name == "as_custom_obj" and item is not None:
                raise WrongFile(
                    path, "tensors and numbers as arguments", f"a custom object in {key}", RENEW
                )
            if name == "treespec_namedtuple_fields" and item:
                raise WrongFile(
                    path,
                    "tensors, tuples, lists and dictionaries as inputs and outputs",
                    "a named tuple",
                    RENEW,
                )
            if name == "target" and isinstance(value.get("inputs"), list):
                name = "as_operator"
            _check(path, item, name, device)
    elif isinstance(value, list):
        for item in value:
            _check(path, item, key, device)
    elif isinstance(value, str):
        _check_text(path, value, key)


def _check_text(path, text: str, key: str) -> None:
    if key == "as_operator":
        if not OPERATORS.fullmatch(text):
            raise WrongFile(
                path,
                "operators of PyTorch's aten and prims that touch no files",
                f"a call of {text[:60]!r}",
                RENEW,
            )
    elif key == "expr_str":
        _check_size(path, text)
    elif key in ("in_spec", "out_spec"):
        _check_tree(path, text)
    elif key == "as_string":
        if not WORDS.fullmatch(text):
            raise WrongFile(
                path, "the name of a mode as text, such as 'reflect'", repr(text[:60]), RENEW
            )
    elif key != "torch_version" and not NAME.fullmatch(text):
        raise WrongFile(path, "a name of letters, digits, dots", f"{text[:60]!r} as {key}", RENEW)


def _check_size(path, text: str) -> None:
    """A size is arithmetic: torch evaluates this text."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval"))) if len(text) < 4000 else [None]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        nodes = [None]
    for node in nodes:
        good = isinstance(node, ARITHMETIC)
        if isinstance(node, ast.Call):
            good = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        elif isinstance(node, ast.Name):
            good = node.id in FUNCTIONS or SYMBOL.fullmatch(node.id)
        elif isinstance(node, ast.Constant):
            good = (
                isinstance(node.value, (bool, int, float))
                or isinstance(node.value, str)
                and SYMBOL.fullmatch(node.value)
            )
        if not good:
            raise WrongFile(
                path, "sizes that are arithmetic of symbols and integers", repr(text[:60]), RENEW
            )


def _check_tree(path, text: str) -> None:
    """Inputs and outputs are tensors in tuples, lists and dictionaries: other containers name
    modules to import.
    """
    if not text:
        return
    try:
        todo = [json.loads(text)[1]]
        while todo:
            node = todo.pop()
            names = json.loads(node["context"] or "null")
            if node["type"] not in TREES or not all(
                isinstance(n, str) and NAME.fullmatch(n) for n in names or []
            ):
                raise ValueError(f"a container {node['type']}")
            todo += node["children_spec"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise WrongFile(
            path,
            "tensors in tuples, lists and dictionaries as inputs and outputs",
            str(error)[:80],
            RENEW,
        ) from None


def _load(path, members: dict[str, bytes]) -> torch.nn.Module:
    from torch.export.pt2_archive._package import PT2ArchiveWriter

    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, data in members.items():
            writer.write_bytes(name, data)
    buffer.seek(0)
    try:
        program = torch.export.load(buffer)
    except Exception as error:
        raise WrongFile(
            path,
            f"a program that PyTorch {torch.__version__} can read",
            f"{type(error).__name__}: {str(error)[:200]}",
            RENEW,
        ) from error
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for i, argument in enumerate(schema.arguments if schema else []):
            given = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name)
            if argument.name in ("train", "training") and given is True:
                raise WrongFile(
                    path,
                    "a network exported for use",
                    f"one exported while training ({node.name})",
                    "Call model.eval() before torch.export.export.",
                )
    module = program.module(check_guards=False)
    for part in module.modules():
        # how it computes was settled when it was exported; torch leaves the flag at True
        part.training = False
    module.eval = lambda: module  # torch's own refuses, even where there is nothing to change
    return module

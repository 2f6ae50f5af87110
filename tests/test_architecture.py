"""The house as docs/design.md describes it, read from the source: arrows, names, forbidden calls."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import genus
from genus import registry
from genus.kinds import table

SOURCE = Path(genus.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# What each part may import from genus, besides itself. Families stand for models/<family>.
MATHEMATICS = {"prob", "nn", "geometry"}
CORE = {"errors", "kinds", "recipe", "settings", "contract", "registry", "hardware"}
MODELS = MATHEMATICS | CORE
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "recipe": set(),
    "kinds": {"errors", "prob", "geometry", "drawing"},
    "settings": {"errors"},
    "registry": {"errors", "contract"},
    "contract": {"errors", "kinds", "recipe", "prob"},
    "hardware": {"errors"},
    "prob": {"errors"},
    "drawing": set(),
    "chains": {"prob", "errors"},
    "nn": {"prob", "errors", "kinds"},
    "geometry": {"prob", "errors"},
    "data": {"prob", "geometry", "errors", "kinds", "contract", "settings"},
    **{f"models/{family}": MODELS for family in registry.FAMILIES},
    "models": MODELS | {"models"},
    "testing": MODELS | {"models"},
    "runs": MODELS | {"models", "data"},
    "evaluate": MODELS | {"models", "data", "runs"},
    "training": MODELS | {"models", "data", "runs", "evaluate"},  # samples may rank checkpoints
    "compress": MODELS | {"models", "data", "runs", "training"},
    "explore": MODELS | {"data"},
    "exchange": MODELS | {"models"},
    "report": MODELS | {"models", "data", "runs", "training", "evaluate", "chains", "drawing"},
    "compare": MODELS | {"models", "data", "runs", "training", "evaluate", "report"},
    "studio": MODELS | {"models", "data", "runs", "training", "evaluate", "report"},
    "api": MODELS | {"models", "data", "runs", "training", "evaluate", "report", "compare", "testing"},
    "cli": MODELS
    | {"models", "data", "runs", "training", "evaluate", "report", "compare", "studio", "testing", "api"}
    | {"chains", "compress", "drawing", "explore", "exchange"},
}
GENUS_ITSELF = {"__init__", "__main__"}  # the front door re-exports from everywhere

FORBIDDEN = {
    "eval", "exec", "compile", "__import__",
    "torch.load", "torch.save", "pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps",
    "yaml.load", "marshal.load", "marshal.loads", "os.system", "joblib.load",
}  # fmt: skip
GLOBAL_NOISE = {
    f"torch.{name}"
    for name in (
        "rand",
        "randn",
        "randint",
        "randperm",
        "bernoulli",
        "multinomial",
        "normal",
        "rand_like",
        "randn_like",
    )
} | {"random.random", "random.choice", "random.shuffle", "np.random.rand", "np.random.randn", "np.random.default_rng"}
DRAWS_ON_PURPOSE = {"prob/noise.py", "testing/mutants/model.py", "testing/mutants/training.py"}
# the one place, and mutants that must be caught


def place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def part(path: Path) -> str:
    """The part of the house that a file belongs to: ``prob``, ``models/flow``, ``contract``."""
    pieces = path.relative_to(SOURCE).with_suffix("").parts
    return "/".join(pieces[:2]) if pieces[0] == "models" and len(pieces) > 2 else pieces[0]


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module of genus that a file imports, at the top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "genus")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "genus":
            module = node.module or ""
            for alias in node.names:
                inside = SOURCE / "/".join(module.split(".")[1:]) / alias.name
                is_module = inside.is_dir() or inside.with_suffix(".py").exists()
                yield f"{module}.{alias.name}" if is_module else module


def target(module: str) -> str:
    """The part of the house that an imported module belongs to."""
    pieces = module.split(".")[1:]
    if pieces[:1] == ["models"] and len(pieces) > 1:
        return "/".join(pieces[:2])
    return pieces[0] if pieces else "__init__"


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with a plain dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func), node


def broken_arrows(path: Path, tree: ast.AST) -> list[str]:
    here = part(path)
    if here in GENUS_ITSELF:
        return []
    allowed = ARROWS[here] | {here}
    found = {target(module) for module in imports(tree)}
    if not here.startswith("models/"):  # outside the folder the models are one thing
        found = {"models" if name.startswith("models/") else name for name in found}
    return sorted(found - allowed - {"__init__"})


@pytest.mark.parametrize("path", FILES, ids=place)
def test_arrows_point_one_way(path: Path) -> None:
    assert part(path) in ARROWS or part(path) in GENUS_ITSELF, f"{part(path)} has no place in the house yet"
    assert broken_arrows(path, ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    ("where", "line", "broken"),
    [
        ("data/mnist.py", "from genus.models.latent.vae import VAE", ["models"]),
        ("models/flow/glow.py", "from genus.models.latent import _decoder", ["models/latent"]),
        ("models/flow/glow.py", "from genus import data", ["data"]),
        ("models/latent/vae.py", "def f():\n    import genus.training.loop", ["training"]),
        ("runs/run.py", "from genus.training import train", ["training"]),
        ("prob/noise.py", "from genus.contract import Batch", ["contract"]),
        ("models/latent/vae.py", "from genus.models.latent import _decoder", []),
        ("training/loop.py", "from genus.data import open_source", []),
    ],
)
def test_the_arrow_test_sees_wrong_arrows(where: str, line: str, broken: list[str]) -> None:
    assert broken_arrows(SOURCE / where, ast.parse(line)) == broken


def circles(imported: dict[str, set[str]]) -> list[set[str]]:
    """The groups of modules that import each other, directly or through others."""
    reached: dict[str, set[str]] = {}
    for start in imported:
        found, new = set[str](), imported[start]
        while new:
            found |= new
            new = set().union(*(imported.get(module, set()) for module in new)) - found
        reached[start] = found
    return [{b for b in reached[a] if a in reached.get(b, set())} for a in imported if a in reached[a]]


def runtime_imports(path: Path) -> set[str]:
    """The modules that a file imports when it runs, at the top or inside a function; not those for types alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    return set(imports(tree))


def test_no_module_imports_itself_through_others() -> None:
    modules = {".".join(("genus", *path.relative_to(SOURCE).with_suffix("").parts)): path for path in FILES}
    assert circles({name: runtime_imports(path) for name, path in modules.items()}) == []


def test_the_circle_test_sees_circles() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}, {"b", "c"}]


@pytest.mark.parametrize("path", FILES, ids=place)
def test_no_forbidden_calls(path: Path) -> None:
    for name, call in calls(ast.parse(path.read_text())):
        assert name not in FORBIDDEN, f"{name} at line {call.lineno}: stored files must never run code"
        for keyword in call.keywords:
            allowed = keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False"
            assert allowed, f"allow_pickle at line {call.lineno}"
        if name in ("np.load", "numpy.load"):
            assert any(k.arg == "allow_pickle" for k in call.keywords), f"line {call.lineno}: say allow_pickle=False"
        if place(path) not in DRAWS_ON_PURPOSE:
            assert name not in GLOBAL_NOISE, f"{name} at line {call.lineno}: draw through genus.prob.noise"


@pytest.mark.parametrize("path", FILES, ids=place)
def test_pickle_is_not_even_imported(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {"pickle", "dill", "cloudpickle", "shelve", "marshal"} & {n.split(".")[0] for n in names}


@pytest.mark.parametrize("path", FILES, ids=place)
def test_every_file_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, f"{place(path)} has no docstring"


@pytest.mark.parametrize("name", registry.names())
def test_file_key_and_class_share_a_name(name: str) -> None:
    cls = registry.get(name)
    assert cls.__module__ == f"genus.models.{registry.family(name)}.{name}"
    assert cls.__name__.lower() == name.replace("_", "")
    assert name == name.lower()


@pytest.mark.parametrize("name", registry.names())
def test_a_model_file_is_short_enough_to_read(name: str) -> None:
    path = SOURCE / "models" / registry.family(name) / f"{name}.py"
    assert len(path.read_text().splitlines()) <= 400, "past 300 lines, ask what is two ideas"


def test_every_model_file_is_in_the_registry() -> None:
    files = {p.stem for p in (SOURCE / "models").glob("*/*.py") if not p.stem.startswith("_")}
    assert files == set(registry.names())
    assert {p.name for p in (SOURCE / "models").iterdir() if p.is_dir() and p.name[0] != "_"} == set(registry.FAMILIES)


# Where the class of a domain is asked for outside kinds/ and models/, and why. Ask the domain for a feature instead.
CLASSES_ASKED_FOR = {
    "cli/models.py": 1,  # the example data of pyramids and sequences come without labels
    "evaluate/recognition.py": 1,  # the judge needs the names of a label
    "report/write.py": 1,  # --label names a class
    "testing/checks/conditions.py": 1,  # parts are taken apart and put together by name
    "testing/mutants/conditions.py": 1,  # so does the mutant that reads one of them
}
DOMAINS = {cls.__name__ for cls in table().values()} | {"Discrete"}


def classes_asked_for(tree: ast.AST) -> int:
    """How often code asks whether something is of one of the kinds: ``isinstance`` or ``case``."""
    asked: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            asked += [node.args[1]]
        elif isinstance(node, ast.MatchClass):
            asked += [node.cls]
    return sum(bool(DOMAINS & {n.id for n in ast.walk(part) if isinstance(n, ast.Name)}) for part in asked)


def test_the_house_asks_for_features_not_for_classes() -> None:
    found = {
        place(path): count
        for path in FILES
        if part(path) != "kinds" and not part(path).startswith("models")
        if (count := classes_asked_for(ast.parse(path.read_text())))
    }
    unexplained = {file: count for file, count in found.items() if count > CLASSES_ASKED_FOR.get(file, 0)}
    assert not unexplained, f"ask the domain for a feature, or give a reason in CLASSES_ASKED_FOR: {unexplained}"
    assert sum(found.values()) <= 15


def test_the_count_sees_classes() -> None:
    code = (
        "isinstance(d, Grid | Tokens)\nmatch d:\n    case Points(dim=3): pass\n    case _ if isinstance(d, int): pass"
    )
    assert classes_asked_for(ast.parse(code)) == 2

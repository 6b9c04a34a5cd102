"""Architecture rules: what each module may import, call and spell, checked in the source itself."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from llma_core.claude_code import records
from tests.support.each import for_each

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "llma_core").rglob("*.py"))
DAEMON = sorted((ROOT / "daemon").rglob("*.py"))
RECORDER = sorted((ROOT / "recorder" / "llma_recorder").rglob("*.py"))

IMPURE = frozenset(
    {
        "asyncio",
        "concurrent",
        "httpx",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "structlog",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
    }
)
# They write events, read them back and ask for them.
EVENT_MODULES = ("events", "hogql", "properties", "recorded_events", "view")
PURE_DAEMON_MODULES = ["delivering/batcher", "reading/ledger", "delivering/retry"]

# The wings of `daemon`, from the top down: a module imports from lower rows only, or from its own wing.
WINGS = (
    ("cli",),
    ("archiving",),
    ("service",),
    ("lookout", "verifying"),
    ("read_loop",),
    ("demo", "history", "parallel"),
    ("reading",),
    ("page",),
    ("checks", "routing", "running", "usage"),
    ("delivering", "executing", "installing"),
    ("config", "following"),
    ("state",),
    ("system",),
)
ROW_OF = {wing: row for row, wings in enumerate(WINGS) for wing in wings}

# The keys of the log that cannot be other words: those in camel case.
LOG_KEYS = frozenset(
    key
    for struct in vars(records).values()
    for key in getattr(struct, "__struct_encode_fields__", ())
    if re.fullmatch(r"[a-z]+[A-Z]\w*", key)
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Return all nodes of a file's syntax tree. Walking through a tree takes longer than what a rule looks at."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path: Path) -> set[str]:
    """Return the top-level names of all packages that a file imports anywhere."""
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, "imports are absolute"
            names.add(node.module.partition(".")[0])
    return names


def called(path: Path) -> set[str]:
    """Return the names of everything that a file calls, as it spells them: `open`, `datetime.now`."""
    return {ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)}


def literals(path: Path) -> Iterator[str]:
    """Yield the string and bytes literals of a file, without its docstrings."""
    prose = {
        id(node.value) for node in nodes(path) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in nodes(path):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            if isinstance(node.value, str):
                yield node.value
            elif isinstance(node.value, bytes):
                yield node.value.decode("latin-1")


@for_each("path", CORE)
def test_the_core_imports_nothing_that_has_effects(path: Path) -> None:
    assert imported(path) & (IMPURE | {"daemon"}) == set()


@for_each("path", CORE)
def test_the_core_opens_nothing_prints_nothing_and_reads_no_clock(path: Path) -> None:
    calls = called(path)

    assert calls & {"open", "print", "input", "eval", "exec", "__import__"} == set()
    assert {call for call in calls if call.rpartition(".")[2] in ("now", "utcnow", "today", "uuid1", "uuid4")} == set()


@for_each("path", RECORDER)
def test_the_recorder_imports_only_itself_and_the_standard_library(path: Path) -> None:
    # Who calls these modules has what they are named after.
    own = {"llma_recorder", *({path.stem} & {"claude_agent_sdk", "litellm"})}
    assert imported(path) - sys.stdlib_module_names - own == set()


@for_each("path", CORE + DAEMON)
def test_the_daemon_does_not_import_the_recorder(path: Path) -> None:
    assert "llma_recorder" not in imported(path)


@for_each("module", PURE_DAEMON_MODULES)
def test_pure_modules_of_the_daemon_import_nothing_that_has_effects(module: str) -> None:
    assert imported(ROOT / "daemon" / f"{module}.py") & IMPURE == set()


@for_each(
    "path",
    [path for path in CORE + DAEMON if name_of(path) not in {f"llma_core/{name}.py" for name in EVENT_MODULES}],
)
def test_only_the_modules_that_write_read_and_ask_for_events_spell_the_receivers_names(path: Path) -> None:
    assert [literal for literal in literals(path) if "$ai_" in literal] == []


@for_each(
    "path",
    [
        path
        for path in CORE + DAEMON
        # The client's registry of live processes has some of the log's keys.
        if name_of(path) not in ("llma_core/claude_code/records.py", "daemon/following/live_sessions.py")
    ],
)
def test_only_one_module_spells_the_logs_keys(path: Path) -> None:
    words = {word for literal in literals(path) for word in re.findall(r"\w+", literal)}

    assert words & LOG_KEYS == set()


def test_this_test_knows_the_logs_keys() -> None:
    assert {
        "agentId",
        "forkedFrom",
        "isSidechain",
        "parentUuid",
        "promptId",
        "requestRef",
        "sessionId",
        "toolUseId",
        "toolUseResult",
    } <= LOG_KEYS


@for_each("path", [path for path in DAEMON if not name_of(path).startswith("daemon/cli/")])
def test_only_the_command_line_prints(path: Path) -> None:
    assert "print" not in called(path)


def wing_of(module: str) -> str:
    """Return the wing of a dotted name below `daemon`."""
    return module.split(".")[1]


def imported_modules(path: Path) -> set[str]:
    """Return the dotted names that a file imports anywhere."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@for_each("path", DAEMON)
def test_the_daemon_knows_agents_only_by_their_interface(path: Path) -> None:
    """Support for another kind of log is a package of the core and an entry in a tuple."""
    assert {module for module in imported_modules(path) if module.startswith("llma_core.claude_code")} == set()


def test_one_module_of_the_daemon_tells_where_the_agents_logs_are() -> None:
    """A caller that asks this module follows every agent."""
    reading = {name_of(path) for path in DAEMON if "agents.AGENTS" in path.read_text(encoding="utf-8")}

    assert reading == {"daemon/following/log_roots.py"}
    assert [name_of(path) for path in DAEMON if "llma_core.agents.AGENTS" in imported_modules(path)] == []


@for_each("path", [path for path in DAEMON if path.parent != ROOT / "daemon" or path.stem != "__init__"])
def test_wings_import_from_lower_wings_only(path: Path) -> None:
    own = path.relative_to(ROOT / "daemon").parts[0].removesuffix(".py")

    upwards = {
        module
        for module in imported_modules(path)
        if module.startswith("daemon.") and wing_of(module) != own and ROW_OF[wing_of(module)] <= ROW_OF[own]
    }

    assert upwards == set()


def test_every_module_belongs_to_a_wing() -> None:
    assert {path.name for path in (ROOT / "daemon").glob("*.py")} == {
        "__init__.py",
        "lookout.py",
        "read_loop.py",
        "service.py",
    }
    wings = {path.name for path in (ROOT / "daemon").iterdir() if (path / "__init__.py").exists()}
    assert wings | {"lookout", "read_loop", "service"} == ROW_OF.keys()


def test_there_is_no_import_cycle() -> None:
    """Every module can be understood, and imported, without one that depends on it."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in CORE + DAEMON}
    uses = {
        name: {
            known
            for module in imported_modules(path)
            # A name imported from a package may be a module of that package, or be defined in its __init__.
            for known in (module, module.rpartition(".")[0])
            if known in names and known != name
        }
        for name, path in names.items()
    }

    while leaves := {name for name, used in uses.items() if not used & uses.keys()}:
        uses = {name: used for name, used in uses.items() if name not in leaves}

    assert uses == {}


@for_each("path", CORE + DAEMON)
def test_every_module_has_a_docstring(path: Path) -> None:
    module = nodes(path)[0]
    assert isinstance(module, ast.Module)
    assert ast.get_docstring(module)

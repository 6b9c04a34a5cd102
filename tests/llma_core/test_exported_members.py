from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import llma_core
from tests.support.each import for_each

ROOT = Path(llma_core.__file__).parent
PACKAGES = ["llma_core", "llma_core.claude_code", "llma_core.outbox", "llma_core.redaction"]
MODULES = sorted(
    module.name for module in pkgutil.walk_packages([str(ROOT)], prefix="llma_core.") if module.name not in PACKAGES
)


def public(module: str) -> set[str]:
    """Return the public names that a module defines itself, without its imports."""
    source = Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8")
    names: set[str] = set()
    for statement in ast.parse(source).body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case _:
                pass
    return {name for name in names if not name.startswith("_")}


def by_kind(name: str) -> tuple[int, str]:
    """Return a sort key: constants come first, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@for_each("module", MODULES)
def test_what_is_public_is_exported_and_nothing_else(module: str) -> None:
    assert set(importlib.import_module(module).__all__) == public(module)


@for_each("module", MODULES)
def test_exports_are_sorted(module: str) -> None:
    exported = importlib.import_module(module).__all__

    assert list(exported) == sorted(exported, key=by_kind)


@for_each("module", MODULES)
def test_everything_exported_that_can_be_documented_is(module: str) -> None:
    members = importlib.import_module(module)

    undocumented = [
        name
        for name in members.__all__
        if isinstance(member := getattr(members, name), type) and not (member.__doc__ or "").strip()
    ]
    assert undocumented == []


@for_each("package", PACKAGES)
def test_packages_export_nothing_themselves(package: str) -> None:
    assert public(package) == set()


def test_the_version_is_three_numbers() -> None:
    assert [part.isdigit() for part in llma_core.__version__.split(".")] == [True, True, True]

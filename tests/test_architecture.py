"""Rules for imports and structure (docs/architecture.md), checked in the sources without importing them."""

from __future__ import annotations

import ast
import graphlib
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch

import pytest

from deployment_toolkit.checkout import ROOT

PACKAGES = ("benchmarks", "deployment_toolkit", "examples", "navigator", "runner", "widedeep")

Project = Mapping[str, ast.Module]  # modules by dotted name; a root script has no dot
Rule = Callable[[Project], Iterator[str]]
Import = tuple[str, ast.stmt | ast.expr]  # dotted name and where

TRITON_CLIENTS = (
    "benchmarks.faults.wire",
    "deployment_toolkit.deploying.*",
    "deployment_toolkit.triton_inference_runner.grpc",
    "deployment_toolkit.triton_inference_runner.http",
    "deployment_toolkit.triton_performance_runner.model_analyzer.start",
    "deployment_toolkit.triton_server.*",
)
TENSORFLOW = (
    "model",
    "tf_dataloader",
    "widedeep.*",
    "examples.dcn.*",
    "deployment_toolkit.library.tensorflow.*",
    "navigator.other_converter.start",
    "benchmarks.bars.tf_products",
)
HOMES = {
    "tensorflow": TENSORFLOW,
    "keras": TENSORFLOW,
    "tf2onnx": ("deployment_toolkit.library.tensorflow.*",),
    "onnxruntime": (
        "deployment_toolkit.library.onnx.*",
        "benchmarks.peers.engine",
    ),
    "openvino": (
        "deployment_toolkit.library.openvino.*",
        "benchmarks.bars.products",
        "benchmarks.operations",
        "benchmarks.peers.engine",
    ),
    "model_navigator": ("navigator.other_converter.start",),
    "tritonclient": TRITON_CLIENTS,
    "dask": ("deployment_toolkit.cluster",),
    "distributed": ("deployment_toolkit.cluster",),
    "mlperf_loadgen": ("deployment_toolkit.capacity.loadgen",),
    "subprocess": ("deployment_toolkit.process",),
    "multiprocessing": ("deployment_toolkit.process",),
    "docker": ("deployment_toolkit.containers.container", "deployment_toolkit.containers.engine"),
}
AT_IMPORT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
MOST_MODULES = 16
# Triton's Python backend looks for the first, --metrics for the second; the third is in servers that never meet.
PRESCRIBED_CLASSES = ("TritonPythonModel", "MetricsCalculator", "WideDeep")
# TensorFlow reads its settings nowhere else.
WRITES_THE_ENVIRONMENT = ("deployment_toolkit.tensorflow_import",)
ENVIRON_NAMES = ("environ", "environb", "getenv", "putenv", "unsetenv")


def core_and_errors_import_only_numpy(project: Project) -> Iterator[str]:
    allowed = {*sys.stdlib_module_names, "numpy", "deployment_toolkit.core", "deployment_toolkit.errors"}
    yield from _outside(project, ("deployment_toolkit.core", "deployment_toolkit.errors"), allowed)


def metrics_know_only_numpy_and_the_core(project: Project) -> Iterator[str]:
    allowed = {*sys.stdlib_module_names, "numpy", "deployment_toolkit.core", "deployment_toolkit.errors"}
    yield from _outside(project, ("metrics",), allowed)


def the_toolkit_knows_no_user_of_it(project: Project) -> Iterator[str]:
    users = {"widedeep", "navigator", "runner", "benchmarks", *_root_scripts(project)}
    for name, tree in project.items():
        if name.startswith("deployment_toolkit"):
            yield from (_told(name, imported) for imported in _imports(tree) if _package(imported) in users)


def benchmarks_know_one_module_of_the_runner(project: Project) -> Iterator[str]:
    for name, tree in project.items():
        if name.startswith("benchmarks."):
            for imported in _imports(tree):
                if _package(imported) == "runner" and _module_of(project, imported[0]) != "runner.serving":
                    yield _told(name, imported)


def root_scripts_do_not_know_each_other(project: Project) -> Iterator[str]:
    scripts = _root_scripts(project)
    for name in scripts:
        yield from (_told(name, item) for item in _imports(project[name]) if _package(item) in ("navigator", "runner"))
    for name, tree in project.items():
        yield from (_told(name, imported) for imported in _imports(tree) if _package(imported) in scripts)


def the_runner_never_loads_tensorflow(project: Project) -> Iterator[str]:
    for name in project:
        if name.split(".")[0] == "runner":
            for path in _paths_to(project, name, {"tensorflow", "keras", "tf2onnx"}):
                yield f"{name}: {' -> '.join(path)}"


def the_runner_knows_no_network(project: Project) -> Iterator[str]:
    for name, tree in project.items():
        if name.split(".")[0] == "runner":
            yield from (_told(name, item) for item in _imports(tree) if _package(item) in ("widedeep", "examples"))


def examples_know_only_the_toolkit(project: Project) -> Iterator[str]:
    packages = {*PACKAGES, *_root_scripts(project)} - {"deployment_toolkit"}
    for name, tree in project.items():
        if name.startswith("examples."):
            yield from (_told(name, item) for item in _imports(tree) if _package(item) in packages)


def packages_are_imported_only_at_home(project: Project) -> Iterator[str]:
    for name, tree in project.items():
        for imported in _imports(tree):
            homes = HOMES.get(_package(imported))
            if homes is not None and not any(fnmatch(name, home) for home in homes):
                yield _told(name, imported)


def argparse_lives_at_entry_points(project: Project) -> Iterator[str]:
    for name, tree in project.items():
        if not (_is_entry_point(name, tree) or name.startswith(("deployment_toolkit.options.", "navigator."))):
            yield from (
                _told(name, imported) for imported in _imports(tree, types=False) if _package(imported) == "argparse"
            )


def logging_is_set_up_in_params(project: Project) -> Iterator[str]:
    set_up = {"basicConfig", "dictConfig", "fileConfig"}
    for name, tree in project.items():
        if name != "deployment_toolkit.options.params":
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and node.attr in set_up:
                    yield f"{name}:{node.lineno} calls {node.attr}"


def the_environment_is_read_at_entry_points_and_never_written(project: Project) -> Iterator[str]:
    for name, tree in project.items():
        if name in WRITES_THE_ENVIRONMENT:
            continue
        reader = _is_entry_point(name, tree) or name == "deployment_toolkit.process"
        reads = {id(node) for node in _environment_reads(tree)} if reader else set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                if any(alias.name in ENVIRON_NAMES for alias in node.names):
                    yield f"{name}:{node.lineno} imports from os what only os.environ should be used for"
            elif _is_environment(node) and id(node) not in reads:
                yield f"{name}: {ast.unparse(node)}"


def nothing_runs_at_import(project: Project) -> Iterator[str]:
    for name, tree in project.items():
        for node in tree.body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            guard = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")
            if not (isinstance(node, AT_IMPORT) or docstring or guard):
                yield f"{name}:{node.lineno} {ast.unparse(node).splitlines()[0]}"


def imports_are_absolute(project: Project) -> Iterator[str]:
    for name, tree in project.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield f"{name}:{node.lineno} {ast.unparse(node)}"


def there_are_no_path_tricks_and_no_shells(project: Project) -> Iterator[str]:
    for name, tree in project.items():
        for node in ast.walk(tree):
            trick = (
                (isinstance(node, ast.Name) and node.id == "__package__")
                or (isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.path", "os.system", "os.popen"))
                or (
                    isinstance(node, ast.ImportFrom)
                    and node.module == "sys"
                    and any(a.name == "path" for a in node.names)
                )
                or (isinstance(node, ast.keyword) and node.arg == "shell")
            )
            if trick:
                yield f"{name}: {ast.unparse(node)}"


def rooms_know_each_other_in_one_direction(project: Project) -> Iterator[str]:
    """A room is a folder of a package with everything below it, or a module next to such folders."""
    yield from _circles(project, _room, late=True)


def modules_are_imported_in_one_direction(project: Project) -> Iterator[str]:
    yield from _circles(project, str, late=False)


def folders_hold_few_modules(project: Project) -> Iterator[str]:
    folders = {name.rpartition(".")[0] for name in project} - {""}
    for folder in folders:
        held = [name for name in project if name.rpartition(".")[0] == folder and name not in folders]
        if len(held) > MOST_MODULES:
            yield f"{folder} holds {len(held)} modules, at most {MOST_MODULES} are found at a glance"


def classes_have_names_of_their_own(project: Project) -> Iterator[str]:
    homes: dict[str, list[str]] = {}
    for name, tree in project.items():
        for node in tree.body:
            if "." in name and isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name)
    for found, modules in homes.items():
        if len(modules) > 1 and found not in PRESCRIBED_CLASSES:
            yield f"class {found} is in {', '.join(modules)}"


RULES: tuple[Rule, ...] = (
    classes_have_names_of_their_own,
    rooms_know_each_other_in_one_direction,
    modules_are_imported_in_one_direction,
    folders_hold_few_modules,
    core_and_errors_import_only_numpy,
    metrics_know_only_numpy_and_the_core,
    the_toolkit_knows_no_user_of_it,
    benchmarks_know_one_module_of_the_runner,
    root_scripts_do_not_know_each_other,
    the_runner_never_loads_tensorflow,
    the_runner_knows_no_network,
    examples_know_only_the_toolkit,
    packages_are_imported_only_at_home,
    argparse_lives_at_entry_points,
    logging_is_set_up_in_params,
    the_environment_is_read_at_entry_points_and_never_written,
    nothing_runs_at_import,
    imports_are_absolute,
    there_are_no_path_tricks_and_no_shells,
)

MAIN = "def main(argv): pass\n"
VIOLATIONS: tuple[tuple[Rule, dict[str, str]], ...] = (
    (
        rooms_know_each_other_in_one_direction,
        {"runner.a.x": "import runner.b.y", "runner.b.y": "import runner.a.z", "runner.a.z": ""},
    ),
    (
        rooms_know_each_other_in_one_direction,
        {"runner.a": "def f():\n    from runner.b import y", "runner.b.y": "import runner.a"},
    ),
    (modules_are_imported_in_one_direction, {"runner.a.x": "import runner.a.y", "runner.a.y": "import runner.a.x"}),
    (classes_have_names_of_their_own, {"runner.a": "class Point: pass", "benchmarks.b.c": "class Point: pass"}),
    (folders_hold_few_modules, {f"runner.a.{chr(number)}": "" for number in range(97, 97 + 17)}),
    (core_and_errors_import_only_numpy, {"deployment_toolkit.core": "import yaml"}),
    (core_and_errors_import_only_numpy, {"deployment_toolkit.errors": "from deployment_toolkit import files"}),
    (core_and_errors_import_only_numpy, {"deployment_toolkit.core": "def f():\n    import yaml"}),
    (metrics_know_only_numpy_and_the_core, {"metrics": "from deployment_toolkit.options.params import option"}),
    (metrics_know_only_numpy_and_the_core, {"metrics": "import sklearn.metrics"}),
    (the_toolkit_knows_no_user_of_it, {"deployment_toolkit.x": "from widedeep import network"}),
    (the_toolkit_knows_no_user_of_it, {"deployment_toolkit.a.x": "def f():\n    import runner.config.run"}),
    (the_toolkit_knows_no_user_of_it, {"deployment_toolkit.x": "import metrics", "metrics": ""}),
    (benchmarks_know_one_module_of_the_runner, {"benchmarks.a": "from runner.workspace import Workspace"}),
    (root_scripts_do_not_know_each_other, {"export_model": "import model", "model": ""}),
    (root_scripts_do_not_know_each_other, {"export_model": "from navigator.options import ModelOptions"}),
    (root_scripts_do_not_know_each_other, {"widedeep.x": "from metrics import MetricsCalculator", "metrics": ""}),
    (the_runner_never_loads_tensorflow, {"runner.x": "def f():\n    import tensorflow as tf"}),
    (
        the_runner_never_loads_tensorflow,
        {"runner.x": "from widedeep import a", "widedeep.a": "import widedeep.b", "widedeep.b": "import tensorflow"},
    ),
    (
        the_runner_never_loads_tensorflow,
        {"runner.x": "import widedeep.a", "widedeep": "import tf2onnx", "widedeep.a": ""},
    ),
    (the_runner_knows_no_network, {"runner.x": "def f():\n    from widedeep.data import dataset_folder"}),
    (the_runner_knows_no_network, {"runner.a.x": "import examples.dcn.model"}),
    (examples_know_only_the_toolkit, {"examples.a.model": "from runner.config.run import RunConfig"}),
    (examples_know_only_the_toolkit, {"examples.a.model": "import metrics", "metrics": ""}),
    (packages_are_imported_only_at_home, {"navigator.x": "import tensorflow as tf"}),
    (
        packages_are_imported_only_at_home,
        {"deployment_toolkit.x": "def f():\n    from tensorflow import keras"},
    ),
    (packages_are_imported_only_at_home, {"navigator.convert": "import model_navigator"}),
    (packages_are_imported_only_at_home, {"runner.x": "import tritonclient.grpc"}),
    (packages_are_imported_only_at_home, {"runner.x": "import subprocess"}),
    (packages_are_imported_only_at_home, {"deployment_toolkit.x": "def f():\n    from dask.delayed import delayed"}),
    (packages_are_imported_only_at_home, {"widedeep.x": "from distributed import Client"}),
    (packages_are_imported_only_at_home, {"widedeep.x": "def f():\n    importlib.import_module('dask')"}),
    (packages_are_imported_only_at_home, {"deployment_toolkit.triton_server.local": "import docker"}),
    (argparse_lives_at_entry_points, {"runner.x": "import argparse"}),
    (argparse_lives_at_entry_points, {"deployment_toolkit.core": "from argparse import ArgumentParser"}),
    (logging_is_set_up_in_params, {"export_model": "import logging\ndef f():\n    logging.basicConfig()"}),
    (the_environment_is_read_at_entry_points_and_never_written, {"widedeep.x": "def f():\n    os.environ['A']"}),
    (the_environment_is_read_at_entry_points_and_never_written, {"widedeep.x": "def f():\n    os.getenv('A')"}),
    (the_environment_is_read_at_entry_points_and_never_written, {"widedeep.x": "from os import environ"}),
    *(
        (the_environment_is_read_at_entry_points_and_never_written, {"script": f"{MAIN}def f():\n    {write}"})
        for write in (
            "os.environ['A'] = 'b'",
            "os.environ |= {}",
            "os.environ = {}",
            "del os.environ['A']",
            "os.environ.setdefault('A', 'b')",
            "os.environ.update(A='b')",
            "os.putenv('A', 'b')",
            "change(os.environ)",
        )
    ),
    (nothing_runs_at_import, {"x": "print('hello')"}),
    (nothing_runs_at_import, {"x": "for i in range(3):\n    pass"}),
    (nothing_runs_at_import, {"x": "try:\n    import docker\nexcept ImportError:\n    docker = None"}),
    (nothing_runs_at_import, {"x": "if os.path.exists('a'):\n    A = 1"}),
    (imports_are_absolute, {"runner.x": "from . import config"}),
    (imports_are_absolute, {"runner.x": "def f():\n    from ..runner import config"}),
    (there_are_no_path_tricks_and_no_shells, {"x": "if __package__ is None:\n    pass"}),
    (there_are_no_path_tricks_and_no_shells, {"x": "def f():\n    sys.path.insert(0, 'a')"}),
    (there_are_no_path_tricks_and_no_shells, {"x": "from sys import path"}),
    (there_are_no_path_tricks_and_no_shells, {"x": "def f():\n    run('a', shell=True)"}),
    (there_are_no_path_tricks_and_no_shells, {"x": "def f():\n    os.system('a')"}),
)

GOOD = {
    "deployment_toolkit.core": '"""Nouns."""\nfrom typing import TYPE_CHECKING\nimport numpy as np\n'
    "from deployment_toolkit.errors import InputError\nif TYPE_CHECKING:\n    import argparse\nA: int = 1",
    "deployment_toolkit.library.tensorflow.extra": "import tensorflow as tf",
    "deployment_toolkit.process": "import os, subprocess\ndef f(base):\n    return dict(os.environ if base else 1)",
    "metrics": "import numpy as np\nfrom deployment_toolkit.core import Array",
    "widedeep.training": f"import argparse\n{MAIN}def f():\n    import tensorflow",
    "runner.x": "from deployment_toolkit import registry",
    "runner.__main__": "import os\ndef f():\n    return {**os.environ, 'A': os.environ.get('B'), 'C': os.environ['D']}",
    "script": f"import sys\n{MAIN}if __name__ == '__main__':\n    main(sys.argv)",
}


@pytest.fixture(scope="module")
def project() -> Project:
    paths = [*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths}
    return {names[path]: ast.parse(path.read_text(), str(path)) for path in sorted(paths)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_project_follows_the_rule(rule: Rule, project: Project) -> None:
    assert len(project) > 50
    assert list(rule(project)) == []


@pytest.mark.parametrize(("rule", "sources"), VIOLATIONS)
def test_rule_finds_a_violation(rule: Rule, sources: dict[str, str]) -> None:
    assert list(rule({name: ast.parse(text) for name, text in sources.items()}))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_accepts_good_code(rule: Rule) -> None:
    assert list(rule({name: ast.parse(text) for name, text in GOOD.items()})) == []


def test_rules_all_have_a_violation_test() -> None:
    assert {rule for rule, _ in VIOLATIONS} == set(RULES)


def _outside(project: Project, names: tuple[str, ...], allowed: set[str]) -> Iterator[str]:
    for name in names:
        for imported in _imports(project.get(name, ast.Module([], []))):
            if not any(imported[0] == good or imported[0].startswith(f"{good}.") for good in allowed):
                yield _told(name, imported)


def _circles(project: Project, place: Callable[[str], str], *, late: bool) -> Iterator[str]:
    """First circle of imports between places; ``late`` also counts imports inside functions and for types."""
    known: dict[str, dict[str, Import]] = {}
    for name, tree in project.items():
        for imported in _imports(tree, types=late, functions=late):
            target = _module_of(project, imported[0])
            if target is not None and place(target) != place(name):
                known.setdefault(place(name), {}).setdefault(place(target), imported)
    try:
        graphlib.TopologicalSorter(known).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1]
        for known_one, knowing in itertools.pairwise(circle):
            yield f"{_told(knowing, known[knowing][known_one])}, in the circle {' <- '.join(circle)}"


def _room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def _module_of(project: Project, imported: str) -> str | None:
    """Module that an imported name is or belongs to; None for other packages."""
    parts = imported.split(".")
    return next((name for size in (len(parts), len(parts) - 1) if (name := ".".join(parts[:size])) in project), None)


def _package(imported: Import) -> str:
    return imported[0].split(".")[0]


def _told(name: str, imported: Import) -> str:
    return f"{name}:{imported[1].lineno} imports {imported[0]}"


def _root_scripts(project: Project) -> set[str]:
    return {name for name in project if "." not in name and name not in PACKAGES}


def _is_entry_point(name: str, tree: ast.Module) -> bool:
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return name.endswith(".__main__") or "main" in functions


def _imports(tree: ast.Module, *, types: bool = True, functions: bool = True) -> Iterator[Import]:
    """Imported names (``from a import b`` counts as a.b, ``import_module("a")`` as a), with or without those for type
    checkers and those inside functions."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not functions:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from ((str(name.value), node) for name in node.args if isinstance(name, ast.Constant))
        pending += ast.iter_child_nodes(node)


def _paths_to(project: Project, start: str, forbidden: set[str]) -> Iterator[list[str]]:
    """Chains of imports from a module to the forbidden packages. In the other modules of a chain, only imports at
    import time count."""
    seen = {start}
    pending = [[start]]
    while pending:
        path = pending.pop()
        for name, _ in _imports(project[path[-1]], types=False, functions=len(path) == 1):
            if name.split(".")[0] in forbidden:
                yield [*path, name]
            parts = name.split(".")
            for module in (".".join(parts[:count]) for count in range(1, len(parts) + 1)):
                if module in project and module not in seen:
                    seen.add(module)
                    pending.append([*path, module])


def _is_environment(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) in {f"os.{name}" for name in ENVIRON_NAMES}


def _environment_reads(tree: ast.Module) -> Iterator[ast.AST]:
    """``os.environ`` where it is read or copied: ``os.environ["A"]``, ``.get("A")``, ``{**os.environ}``,
    ``dict(os.environ)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript | ast.Attribute):
            looked_into = isinstance(node.ctx, ast.Load) and getattr(node, "attr", "get") == "get"
            yield from [node.value] if looked_into else []
        elif isinstance(node, ast.Dict):
            yield from (value for key, value in zip(node.keys, node.values, strict=True) if key is None)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "dict":
            yield from (part for argument in node.args for part in ast.walk(argument))

"""docs/preprocessing-libraries.md, generated from a trace of what preprocessing and an ensemble's requests run.

``python -m tests.library_places`` writes it."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.files.atomic import write_text

PAGE = ROOT / "docs" / "preprocessing-libraries.md"
PACKAGES, LIBRARIES = ("merlin", "nvtabular"), ("pandas", "dask", "distributed", "numpy")
_FOLDERS = tuple(f"{next(iter(importlib.util.find_spec(name).submodule_search_locations))}/" for name in PACKAGES)  # type: ignore[union-attr, arg-type]
_PREPROCESSING = "tests/widedeep/preprocessing"
_DATASET = f"{_PREPROCESSING}/test_dataset.py"
_IMPORT = "test_nvtabular_comes_without_warnings_frameworks_or_newer_data_frames"
IMPORTS = f"{_PREPROCESSING}/test_nvtabular_import.py::{_IMPORT}"
_PARTITIONS = f"{_PREPROCESSING}/test_partitions.py::test_files_of_any_partitions_are_equal_byte_for_byte"
_COUNTS = f"{_DATASET}::test_counts_are_standardised_logarithms_over_the_training_rows"
_AGES = f"{_DATASET}::test_days_since_published_equal_the_pandas_result"
_TYPES = f"{_DATASET}::test_workflow_takes_the_dtypes_of_the_joined_columns_and_makes_those_of_the_features"
_ORDER = f"{_DATASET}::test_display_is_in_one_split_with_its_rows_in_order"
_NO_LABEL = f"{_DATASET}::test_saved_workflow_gives_the_same_features_without_the_label"
# Test that runs a function and compares the features, by the function's name.
COVERED_BY = {
    "merlin.core.has_gpu.*": IMPORTS,
    "merlin.core.dispatch.is_list_dtype": _COUNTS,
    "merlin.core.dispatch.*": _NO_LABEL,
    "merlin.core.utils.*": _PARTITIONS,
    "merlin.dag.executors.DaskExecutor.*": _PARTITIONS,
    "merlin.dag.*": _NO_LABEL,
    "merlin.dtypes.*": _TYPES,
    "merlin.io.dataset.*": _TYPES,
    "merlin.io.dataset_engine.*": _PARTITIONS,
    "merlin.io.dataframe_iter.*": _PARTITIONS,
    "merlin.io.parquet.*": _PARTITIONS,
    "merlin.io.worker.*": _ORDER,
    "nvtabular.ops.fill.FillMedian.*": _AGES,
    "nvtabular.ops.fill.FillMissing.*": f"{_DATASET}::test_features_of_missing_document_tables_are_empty",
    "nvtabular.ops.logop.*": _COUNTS,
    "nvtabular.ops.moments._tree_node_moments": _PARTITIONS,
    "nvtabular.ops.moments.*": _COUNTS,
    "nvtabular.ops.normalize.*": _COUNTS,
}
Places = dict[str, set[str]]


class Trace:
    """Record of the calls that the packages make into the libraries, and of the lines that they run."""

    def __init__(self) -> None:
        self.calls: set[tuple[str, str, str]] = set()
        self.lines: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)

    def __enter__(self) -> Trace:
        for place in (threading, sys):
            place.setprofile(self._profile)
            place.settrace(self._trace)
        return self

    def __exit__(self, *error: object) -> None:
        for place in (threading, sys):
            place.setprofile(None)
            place.settrace(None)

    def _profile(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call":
            caller: FrameType | None = frame
        elif event == "call" and frame.f_code.co_name != "<module>":
            caller = frame.f_back
        else:
            return
        if caller is not None and caller.f_code.co_filename.startswith(_FOLDERS):
            name = _builtin(called) if event == "c_call" else _function(frame)
            if _is_of(name, LIBRARIES):
                self.calls.add((caller.f_code.co_filename, _place(caller), name))

    def _trace(self, frame: FrameType, event: str, value: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_FOLDERS):
            return None
        self.lines[frame.f_code.co_filename].add((_place(frame), frame.f_lineno))
        return self._trace


def _is_of(name: str, packages: tuple[str, ...]) -> bool:
    return name.partition(".")[0] in packages


def _place(frame: FrameType) -> str:
    """Name of the function that a frame belongs to; empty outside functions, which is what an import runs."""
    is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED
    return frame.f_code.co_qualname.partition(".<locals>")[0] if is_function else ""


def _function(frame: FrameType) -> str:
    """Module and name of a running function; of a wrapper that a decorator made, the name of what it wraps."""
    name = frame.f_code.co_qualname
    if "<locals>" in name:
        wrapped = frame.f_locals.get("func") or frame.f_locals.get("method") or frame.f_locals.get("dispatch_name")
        name = wrapped.__qualname__ if isinstance(wrapped, FunctionType) else str(wrapped)
    return f"{frame.f_globals.get('__name__')}.{name}"


def _builtin(called: Any) -> str:
    owner = getattr(called, "__self__", None)
    if owner is None or isinstance(owner, ModuleType):
        return f"{called.__module__}.{called.__qualname__}"
    owner = owner if isinstance(owner, type) else type(owner)
    return f"{owner.__module__}.{owner.__qualname__}.{called.__name__}"


def traced_places() -> Places:
    """Preprocesses small tables, in several partitions, and answers a request with the saved workflow. Returns what the
    packages call, read and import of the libraries, by the function that does; a name that ends with ``.`` is a module,
    for what its import needs. Only for a new process, which has not imported NVTabular."""
    assert not {*PACKAGES} & sys.modules.keys()
    with tempfile.TemporaryDirectory() as folder, Trace() as trace:
        _preprocess(Path(folder))
    places: defaultdict[str, set[str]] = defaultdict(set)
    modules = {module.__file__: name for name, module in sys.modules.items() if getattr(module, "__file__", None)}
    for file, function, called in trace.calls:
        places[f"{modules[file]}.{function}"].add(_short(called))
    for file, lines in trace.lines.items():
        names = _names_by_line(Path(file), sys.modules[modules[file]])
        for function, line in lines:
            places[f"{modules[file]}.{function}"] |= names.get(line, set())
    return {place: _without_prefixes(names) for place, names in sorted(places.items()) if names}


def _preprocess(folder: Path) -> None:
    import numpy as np

    from widedeep.features.spec import load_feature_spec
    from widedeep.preprocessing import dataset
    from widedeep.preprocessing.raw_features import load_raw_features
    from widedeep.preprocessing.tasks.layout import Layout
    from widedeep.synthetic import SyntheticOptions, generate

    generate(SyntheticOptions(folder / "raw", 300, seed=5))
    parts = Layout(piece_bytes=3_000, run_rows=300, sample_rows=32, bucket_rows=400, file_rows=500, group_rows=200)
    dataset.preprocess(dataset.PreprocessingOptions(folder / "raw", folder / "out"), layout=parts)
    model = load_raw_features(folder / "out" / "workflow", load_feature_spec(folder / "out" / "feature_spec.yaml"))
    values = {"object": ["US>CA>807", "", "GB"]}
    model.infer_impl(
        {tensor.name: np.array([values.get(tensor.dtype, [1, 3, 250])], tensor.dtype).T for tensor in model.spec.inputs}
    )


def _names_by_line(file: Path, module: ModuleType) -> dict[int, set[str]]:
    """The libraries' modules, functions and classes that the lines of a module name."""
    names: defaultdict[int, set[str]] = defaultdict(set)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names[node.lineno] |= {item.name for item in node.names if _is_of(item.name, LIBRARIES)}
        elif isinstance(node, ast.ImportFrom) and _is_of(node.module or "", LIBRARIES):
            names[node.lineno] |= {f"{node.module}.{item.name}" for item in node.names}
        elif isinstance(node, ast.Name | ast.Attribute):
            name, _, rest = ast.unparse(node).partition(".")
            value = getattr(module, name, None)
            if not rest.replace(".", "").isidentifier() and rest:
                continue
            found = getattr(value, "__name__", "") if isinstance(value, ModuleType) else _defined(value)
            if _is_of(found, LIBRARIES):
                names[node.lineno].add(f"{found}.{rest}".rstrip("."))
    return {line: set(map(_short, found)) for line, found in names.items()}


def _defined(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"


def _short(name: str) -> str:
    """A method without the modules of its class, which the libraries move: ``pandas.DataFrame.sum``."""
    parts = name.split(".")
    at = next((at for at, part in enumerate(parts[:-1]) if part.lstrip("_")[:1].isupper()), None)
    return name if at is None else ".".join([parts[0], *parts[at:]])


def _without_prefixes(names: set[str]) -> set[str]:
    return {name for name in names if not any(other.startswith(f"{name}.") for other in names)}


def covering_test(place: str) -> str:
    """Test of a place, as ``file::function``. Raises StopIteration if none is known."""
    return IMPORTS if place.endswith(".") else next(test for name, test in COVERED_BY.items() if fnmatch(place, name))


def page() -> str:
    """The complete text of the page."""
    places = traced_places()
    modules: defaultdict[str, list[str]] = defaultdict(list)
    for place, names in places.items():
        for name in names if place.endswith(".") else ():
            modules[name].append(place.rstrip("."))
    imported = [(f"`{name}`", _listed(users)) for name, users in sorted(modules.items())]
    run = [
        (f"`{place}`", _listed(sorted(names)), f"`{covering_test(place).partition('::')[2]}`")
        for place, names in places.items()
        if not place.endswith(".")
    ]
    return _HEAD + "\n".join(
        [
            *_table(("name", "needed by"), imported),
            _CALLS.format(places=len(run), file=_DATASET),
            *_table(("place", "calls and reads", "test"), run),
        ]
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |"


_HEAD = f"""# Where NVTabular and merlin-core touch pandas, dask and NumPy

NVTabular and merlin-core 23.8 are older than this project's pandas, dask and NumPy
([preprocessing.md](preprocessing.md)). This page lists every place where they use them, and a test that runs it and
compares the features. The page is generated: `python -m tests.library_places` traces an import, a preprocessing in
several partitions and a request to the saved workflow.
`{_PREPROCESSING}/test_library_places.py` makes such a trace and compares it with the page. A place
without a test is an error there.

NVTabular declares merlin-dataloader. Nothing here imports it.

## What the imports need

`{_IMPORT}`
(`{IMPORTS.partition("::")[0]}`) covers these: without one of them the import fails.

"""
_CALLS = """
## What is called and read

These {places} functions run. A method stands under the class that defines it: `pandas.NDFrame.astype` is `astype` of
data frames and series. The tests are those of `{file}`, that of partitions in
`test_partitions.py`, and the test of the import.
"""

if __name__ == "__main__":
    write_text(PAGE, page())

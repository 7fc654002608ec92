from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from deployment_toolkit.core import DataloaderModule, MetricsModule, ModelModule
from deployment_toolkit.errors import DataError, ModelError, UsageError
from deployment_toolkit.options.params import keywords_for, make_parser
from deployment_toolkit.options.plugins import Plugin, call_plugin, load_module, parse_with_plugins


def plugin(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


LOADER = """
def get_dataloader_fn(*, data: str, batch_size: int = 7, threads: int = 0):
    return lambda: iter([(data, batch_size)])
"""
MODEL = """
def update_argparser(parser):
    parser.add_argument("--width", type=int, default=3)

def get_model(**values):
    return values, len
"""


def test_plugins_add_their_options(tmp_path: Path) -> None:
    loader, model = plugin(tmp_path / "loader.py", LOADER), plugin(tmp_path / "model.py", MODEL)
    parser = make_parser("")
    parser.add_argument("--model-path", "-p", type=Path, required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--loader", type=Path)
    parser.add_argument("--model", type=Path)
    plugins = [Plugin("loader", DataloaderModule, "get_dataloader_fn"), Plugin("model", ModelModule, "get_model")]
    argv = f"-p a --loader {loader} --model={model} --data d --width 4 --threads 2"
    args, modules = parse_with_plugins(parser, argv.split(), plugins)

    function = modules["loader"].get_dataloader_fn
    assert keywords_for(function, args) == {"data": "d", "batch_size": 7, "threads": 2}
    assert keywords_for(modules["model"].get_model, args) == vars(args)
    assert args.width == 4
    with pytest.raises(UsageError, match="required: --data"):
        parse_with_plugins(parser, f"-p a --loader {loader}".split(), plugins)


@pytest.mark.parametrize("ignore", [True, False])
def test_unknown_options_are_refused_or_ignored_by_option(ignore: bool) -> None:
    parser = make_parser("")
    parser.add_argument("--ignore-unknown-parameters", action="store_true")
    argv = ["--nonsense", "1"] + ["--ignore-unknown-parameters"] * ignore
    if ignore:
        assert parse_with_plugins(parser, argv, [])[0].ignore_unknown_parameters
    else:
        with pytest.raises(UsageError, match="unrecognized arguments: --nonsense 1"):
            parse_with_plugins(parser, argv, [])


def test_module_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no module at .*none\.py"):
        load_module(tmp_path / "none.py", ModelModule)
    with pytest.raises(ModelError, match=r"notes\.txt is not a Python module"):
        load_module(plugin(tmp_path / "notes.txt", ""), ModelModule)
    with pytest.raises(ModelError, match=r"model\.py does not define get_dataloader_fn.* DataloaderModule"):
        load_module(plugin(tmp_path / "model.py", MODEL), DataloaderModule)
    with pytest.raises(ModelError, match=r"can't be imported: No module named 'no_such_package'; install"):
        load_module(plugin(tmp_path / "needs.py", "import no_such_package"), ModelModule)
    with pytest.raises(SyntaxError):  # a bug in the user's module keeps its traceback
        load_module(plugin(tmp_path / "broken.py", "def ("), ModelModule)
    mended = plugin(tmp_path / "broken.py", MODEL)
    assert load_module(mended, ModelModule) is load_module(str(mended), ModelModule)


OWN = """
def update_argparser(parser):
    group = parser.add_argument_group("own")
    group.add_argument("--batch-size", "-b", type=str, default="9")
    group.add_argument("--verbose", action="store_true")
    alternatives = parser.add_mutually_exclusive_group()
    alternatives.add_argument("--small", action="store_true")
    alternatives.add_argument("--large", action="store_true")
    parser.set_defaults(unit=3)

class MetricsCalculator:
    def __init__(self, batch_size, unit, small, large=True, title="x", count=4, exact: bool = False): ...
"""


def options_of_own(folder: Path, *argv: str) -> Namespace:
    parser = make_parser("")
    parser.add_argument("--batch-size", type=int, default=7)
    path = plugin(folder / "own.py", OWN)
    plugins = [Plugin("metrics", MetricsModule, "MetricsCalculator")]
    parser.add_argument("--metrics")
    return parse_with_plugins(parser, ["--metrics", str(path), *argv], plugins)[0]


def test_option_that_the_command_has_stays_its_own(tmp_path: Path) -> None:
    args = options_of_own(tmp_path)
    assert (args.batch_size, args.verbose, args.unit, args.small) == (7, False, 3, False)
    assert options_of_own(tmp_path, "-b", "8").batch_size == "8"  # a flag that only the module has
    assert options_of_own(tmp_path, "--batch-size", "8").batch_size == 8
    with pytest.raises(UsageError, match="not allowed with argument --small"):
        options_of_own(tmp_path, "--small", "--large")


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        ([], ("x", 4, False)),
        (["--title", "y", "--count", "5", "--exact"], ("y", 5, True)),
        (["--exact", "1"], ("x", 4, True)),
        (["--exact", "False"], ("x", 4, False)),
        (["--exact", "--no-exact"], ("x", 4, False)),
    ],
)
def test_parameters_of_any_form_become_options(argv: list[str], found: tuple[Any, ...], tmp_path: Path) -> None:
    args = options_of_own(tmp_path, *argv)
    assert (args.title, args.count, args.exact) == found
    for wrong in (["--exact", "maybe"], ["--no-exact", "1"]):
        with pytest.raises(UsageError, match="is neither yes nor no, 1 nor 0"):
            options_of_own(tmp_path, *wrong)


def test_option_with_another_meaning_in_the_module_is_refused(tmp_path: Path) -> None:
    text = MODEL.replace('"--width"', '"--model", dest="width"')
    parser = make_parser("")
    parser.add_argument("--model")
    plugins = [Plugin("model", ModelModule, "get_model")]
    with pytest.raises(ModelError, match=r"model\.py adds --model as width: .* so give yours another"):
        parse_with_plugins(parser, ["--model", str(plugin(tmp_path / "model.py", text))], plugins)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import no_such_package", "get_dataloader_fn of .*late.py can't import: .*; install what it needs"),
        ("from triton.tf_dataloader import none", "cannot import name 'none' .*; of the original's contract"),
        ("assert data, 'there is no data'", "get_dataloader_fn of .*late.py: there is no data"),
    ],
)
def test_function_that_cannot_be_called_is_one_line(body: str, message: str, tmp_path: Path) -> None:
    path = plugin(tmp_path / "late.py", f"def get_dataloader_fn(*, data):\n    {body}")
    module = load_module(path, DataloaderModule)
    with pytest.raises((ModelError, DataError), match=message):
        call_plugin(Plugin("dataloader", DataloaderModule, "get_dataloader_fn"), module, Namespace(data=""))

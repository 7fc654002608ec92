"""Options of several values that are repeated, and values in any letter case."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from deployment_toolkit.core import Format
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.params import add_dataclass, add_function, from_args, make_parser, option


@dataclass(frozen=True)
class Options:
    formats: list[Format] = option("which", [Format.ONNX], nargs="+", unique=True)
    units: list[int] | None = option("layers", None, nargs="+", adds_up=True)
    sizes: list[int] = option("rows", [1], adds_up=True)
    last: list[int] = option("requests", [1])


def parse(command: str) -> Options:
    parser = make_parser("")
    add_dataclass(parser, Options)
    return from_args(Options, parser.parse_args(command.split()))


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("", Options()),
        ("--formats trt --formats openvino", Options([Format.TRT, Format.OPENVINO])),
        ("--formats onnx", Options([Format.ONNX])),
        ("--formats trt onnx --formats onnx tf-trt", Options([Format.TRT, Format.ONNX, Format.TF_TRT])),
        ("--formats TRT Onnx", Options([Format.TRT, Format.ONNX])),
        ("--units 8 8 --sizes 2 --units 8 4", Options(units=[8, 8, 8, 4], sizes=[2])),
        ("--sizes", Options(sizes=[])),
    ],
)
def test_repeated_option_adds_its_values(command: str, options: Options) -> None:
    assert parse(command) == options
    assert parse("") == Options(), "the defaults stay"


def test_option_with_values_and_without_is_refused() -> None:
    for command in ("--sizes --sizes 2", "--sizes 2 --sizes"):
        with pytest.raises(UsageError, match="argument --sizes: it is there with values and without: give it once"):
            parse(command)


def test_other_option_has_its_last_values_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert parse("--last 1 2 --last 8").last == [8]
    assert caplog.messages == ["--last 8, in place of the earlier 1 2"]


def test_list_of_a_plugin_has_its_last_values_too(caplog: pytest.LogCaptureFixture) -> None:
    def get_dataloader_fn(*, files: list[str]) -> None: ...

    parser = make_parser("")
    add_function(parser, get_dataloader_fn)
    assert parser.parse_args(["--files", "a", "--files", "b"]).files == ["b"]
    assert caplog.messages == ["--files b, in place of the earlier a"]

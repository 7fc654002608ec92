from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployment_toolkit.core import Batching, Format
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.options.params import (
    OneLineParser,
    add_dataclass,
    add_function,
    from_args,
    keywords_for,
    make_parser,
    option,
    run_entry_point,
)


@dataclass(frozen=True)
class Options:
    model_path: Path = option("where", aliases=("-p",))
    threads: int | None = option("how many", None)
    units: list[int] = option("layers", [8, 8], type=int, nargs="+")
    batching: Batching = option("how", Batching.STATIC)
    formats: list[Format] = option("which", [Format.ONNX], nargs="+", choices=[Format.ONNX, Format.TRT])
    verbose_too: bool = option("more", False)
    warmup: bool = option("first", True)


def parse(*argv: str) -> Options:
    parser = make_parser("")
    add_dataclass(parser, Options)
    return from_args(Options, parser.parse_args(argv))


def test_command_line_becomes_its_dataclass() -> None:
    assert parse("-p", "a") == Options(Path("a"))
    argv = "--model-path a --threads 2 --units 4 5 --batching dynamic --formats trt onnx --verbose-too --no-warmup"
    formats = [Format.TRT, Format.ONNX]
    assert parse(*argv.split()) == Options(Path("a"), 2, [4, 5], Batching.DYNAMIC, formats, True, False)
    assert parse("-p", "a").units is not parse("-p", "a").units


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: --model-path/-p"),
        (["-p", "a", "--batching", "fast"], "'fast' (choose from 'disabled', 'static', 'dynamic')"),
        (["-p", "a", "--formats", "pyt"], "'pyt' (choose from 'onnx', 'trt')"),
        (["-p", "a", "--threads", "two"], "argument --threads: invalid int value: 'two'"),
        (["-p", "a", "--model-pat", "b"], "unrecognized arguments: --model-pat b"),
    ],
)
def test_command_line_error_is_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(*argv)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_help_shows_choices_and_defaults_except_none() -> None:
    parser = OneLineParser(prog="x", formatter_class=make_parser("").formatter_class)
    add_dataclass(parser, Options)
    told = " ".join(parser.format_help().split())
    assert "--batching {disabled,static,dynamic} how (default: static)" in told
    assert "which (default: ['onnx'])" in told
    assert "--threads THREADS how many --units" in told


def test_option_of_two_plugins_is_shared() -> None:
    def first(*, feature_spec: Path | None = None) -> None: ...

    parser = make_parser("")
    add_function(parser, first)

    @dataclass
    class Second:
        feature_spec: Path | None = option("features", None)

    add_dataclass(parser, Second)
    args = parser.parse_args(["--feature-spec", "a.yaml"])
    assert (keywords_for(first, args), from_args(Second, args).feature_spec) == (
        {"feature_spec": Path("a.yaml")},
        Path("a.yaml"),
    )


def raising(error: BaseException) -> Any:
    def main(argv: Sequence[str]) -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code", "told"),
    [
        (lambda argv: None, 0, ""),
        (lambda argv: len(argv), 2, ""),
        (raising(DataError("two\n  lines")), 1, "error: two lines\n"),
        (raising(KeyboardInterrupt()), 130, "interrupted\n"),
        (
            raising(PermissionError(13, "Permission denied", "/the/log")),
            1,
            "error: /the/log can't be used: Permission denied; give this user the permission or choose another place\n",
        ),
        (
            raising(OSError(28, "Error writing bytes")),
            1,
            "error: [Errno 28] Error writing bytes (No space left on device; make room or choose another place)\n",
        ),
    ],
)
def test_entry_point_ends_with_an_exit_code(
    main: Any, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        run_entry_point(main, ["a", "b"])
    assert (raised.value.code, capsys.readouterr().err) == (code, told)


def test_ctrl_c_in_a_finalizer_ends_the_program() -> None:
    program = """if True:
        import signal, time
        from deployment_toolkit.options.params import run_entry_point
        class Garbage:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)
        def main(argv):
            Garbage()
            time.sleep(60)
        run_entry_point(main)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_inside_a_long_call_of_a_library_ends_the_program(ending: signal.Signals) -> None:
    program = """if True:
        import hashlib
        from deployment_toolkit.options.params import run_entry_point
        def main(argv):
            print("begins", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes, in one call
        run_entry_point(main)"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "begins\n"
        spent_s = psutil.Process(process.pid).cpu_times().user
        while psutil.Process(process.pid).cpu_times().user < spent_s + 0.3:  # it is inside the call
            time.sleep(0.02)
        process.send_signal(ending)
        try:
            _, told = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, told) == (130, "interrupted inside a library's call\n")


@pytest.mark.parametrize("bug", [ZeroDivisionError(), FileNotFoundError(2, "No such file or directory", "a")])
def test_bug_shows_its_traceback(bug: Exception) -> None:
    with pytest.raises(type(bug)):
        run_entry_point(raising(bug), [])


@pytest.mark.parametrize("flags, told", [([], False), (["-v"], True), (["--verbose"], True)])
def test_verbose_option_logs_debug_messages(flags: list[str], told: bool) -> None:
    program = "import logging, sys; from deployment_toolkit.options.params import run_entry_point; "
    program += "run_entry_point(lambda argv: logging.getLogger('part').debug('a detail'))"
    done = subprocess.run(
        [sys.executable, "-c", program, *flags], capture_output=True, text=True, timeout=60, check=True
    )
    assert ("DEBUG part a detail" in done.stderr) == told

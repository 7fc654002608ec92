"""Library of the C++ host: compiled once, with the compiler that is found; the error where there is none."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from deployment_toolkit.core import Format, Host, LoadMethod, ModelSpec, TensorSpec
from deployment_toolkit.cpp_host import library
from deployment_toolkit.cpp_host.__main__ import main
from deployment_toolkit.cpp_host.compiler import Compiler
from deployment_toolkit.cpp_host.library import build_library
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.loading import load_and_check
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import BackendError, BuildError, ServerError
from deployment_toolkit.server_access import private_options
from deployment_toolkit.triton_server.local import local_server
from tests.small_networks import summing

# Instead of a compiler: writes something where the library is to be, and what it was called with.
PRETENDING = 'for last; do :; done; echo built >"$last"; echo "$@" >>"$0.calls"'
SPEC = ModelSpec((TensorSpec("x", "float32", (1,)),), (TensorSpec("y", "float32", (1,)),))


@pytest.fixture
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(library, "_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def program(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "c++"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_command_prints_the_path_of_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert Path(capsys.readouterr().out.strip()).name == "libtriton_cpp_host.so"


def test_library_is_compiled_once_for_its_sources(
    nothing_built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = program(tmp_path / "bin", PRETENDING)
    env = {"PATH": f"{tmp_path / 'bin'}:/bin:/usr/bin"}
    sources = tmp_path / "src"
    shutil.copytree(library._SOURCES, sources)
    first = build_library(env)
    assert first.name == "libtriton_cpp_host.so" and first.is_relative_to(nothing_built)
    monkeypatch.setattr(library, "_SOURCES", sources)
    assert build_library(env) == first
    assert build_library({"PATH": "/nowhere"}) == first, "where the compiler has gone since, what it left serves on"
    (sources / "batch.h").write_text("// changed")
    second = build_library(env)
    assert second != first and first.is_file()
    assert len(compiler.with_name("c++.calls").read_text().splitlines()) == 2


def test_environment_behind_a_link_needs_no_other_library(
    nothing_built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"PATH": f"{program(tmp_path / 'bin', PRETENDING).parent}:/bin"}
    package = tmp_path / "packages" / "onnxruntime"
    (package / "capi").mkdir(parents=True)
    for name in ("__init__.py", "capi/libonnxruntime.so.1"):
        (package / name).touch()
    (tmp_path / "linked").symlink_to(package.parent)
    built = []
    for folder in (package.parent, tmp_path / "linked"):
        spec = importlib.util.spec_from_file_location("onnxruntime", folder / "onnxruntime" / "__init__.py")
        found = {"onnxruntime": spec}
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=found: found.get(name))
        built.append(build_library(env))
    assert built[0] == built[1]


def test_level_of_optimization_in_cxx_takes_the_place_of_the_own(nothing_built: Path, tmp_path: Path) -> None:
    compiler, levels = program(tmp_path / "bin", PRETENDING), []
    for options in ("", " -g", " -O0"):
        build_library({"PATH": "/bin", "CXX": f"{compiler}{options}"})
        call = compiler.with_name("c++.calls").read_text().splitlines()[-1]
        levels.append([word for word in call.split() if word.startswith("-O")])
    assert levels == [["-O3"], ["-O3"], ["-O0"]]


def test_missing_libraries_are_named_when_a_model_needs_them(
    nothing_built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow is not installed, the file of ONNX Runtime is damaged; OpenVINO serves on."""
    monkeypatch.setenv("CXX", " ".join([*Compiler.find(os.environ).command, "-O0"]))  # quicker to compile
    folder = tmp_path / "capi"
    folder.mkdir()
    (folder / "libonnxruntime.so.1").write_text("this is no library")
    onnxruntime, openvino, tensorflow = library.LIBRARIES
    found = {onnxruntime: (tmp_path, folder / "libonnxruntime.so.1"), openvino: openvino.find(), tensorflow: None}
    monkeypatch.setattr(library.EngineLibrary, "find", lambda engine: found[engine])
    (tmp_path / "repository").mkdir()
    with local_server(tmp_path / "repository", log_path=tmp_path / "server.log") as running:
        for engine, told in (
            (Format.TF_SAVEDMODEL, r"TensorFlow, which runs tf-savedmodel models, was not installed when this server"),
            (
                Format.ONNX,
                r"ONNX Runtime can't be opened: .*libonnxruntime.so.1: .*; run scripts/install.sh, then",
            ),
            (Format.OPENVINO, None),
        ):
            deployment = Deployment(str(engine), summing().spec, engine, host=Host.CPP)
            add_model(tmp_path / "repository", deployment, summing().write(engine, tmp_path / str(engine)))
            with contextlib.nullcontext() if told is None else pytest.raises(ServerError, match=told):
                running.load_model(str(engine), timeout_s=60)
    monkeypatch.setattr(library.EngineLibrary, "find", lambda engine: None)
    assert not library.can_build()
    with pytest.raises(BuildError, match="needs an inference library: run scripts/install.sh"):
        build_library()


def test_compiler_in_cxx_comes_first_with_its_options(tmp_path: Path) -> None:
    own = program(tmp_path / "bin", "")
    assert Compiler.find({"PATH": str(own.parent)}).command == (str(own),)
    assert Compiler.find({"PATH": "/nowhere", "CXX": f"{own} -g"}).command == (str(own), "-g")
    with pytest.raises(BuildError, match=r"the C\+\+ compiler of CXX=/no/c\+\+ is not there: .*apt-get install g\+\+"):
        Compiler.find({"PATH": str(own.parent), "CXX": "/no/c++"})


def test_compile_error_includes_the_output_of_the_compiler(nothing_built: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin", "echo out of registers >&2; exit 1")
    with pytest.raises(BuildError, match=r"can't be compiled: .*out of registers"):
        build_library({"PATH": f"{tmp_path / 'bin'}:/bin"})
    assert not list(nothing_built.rglob("*.so*"))


def test_server_without_a_compiler_starts_without_the_cpp_host(
    nothing_built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    private_options.build_library()  # without which no server starts
    monkeypatch.setattr("importlib.util.find_spec", _without("ziglang"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    repository = tmp_path / "repository"
    source = tmp_path / "model.xml"
    for part in (source, source.with_suffix(".bin")):
        part.write_bytes(b"never read")
    deployment = Deployment("m", SPEC, Format.OPENVINO, host=Host.CPP)
    add_model(repository, deployment, source)
    with local_server(repository, log_path=tmp_path / "server.log") as running:
        assert "the server starts without the C++ host: there is no C++ compiler: install one" in caplog.text
        with pytest.raises(
            BackendError, match=r"has no C\+\+ host: there is no C\+\+ compiler: .*g\+\+.*ziglang.*restart the server"
        ):
            load_and_check(running.http_url, deployment, method=LoadMethod.EXPLICIT, timeout_s=30)


def _without(package: str) -> object:
    real = importlib.util.find_spec
    return lambda name, *rest: None if name == package else real(name, *rest)

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.process import run

HEAVY = ("keras", "tf_keras", "pandas", "matplotlib")
PRINT = f"""
import json, os, sys
loaded = [name for name in {HEAVY} if name in sys.modules]
print(json.dumps([loaded, os.environ.get("TF_USE_LEGACY_KERAS"), result]))
"""
PREPARED = """
from deployment_toolkit.tensorflow_import import prepare_tensorflow
prepare_tensorflow()
prepare_tensorflow()
"""
# What TensorFlow does at the end of its import, and a TensorFlow that can't do without.
FAKE_KERAS = {"tf_keras/__init__.py": "import tf_keras.src", "tf_keras/src/__init__.py": "word = 'keras'"}
GUARDED = "try:\n    import tf_keras.src\nexcept ImportError:\n    found = None\nelse:\n    found = 1\n"
UNGUARDED = "import tf_keras.src\nfound = tf_keras.src.word\n"


def python(program: str, tmp_path: Path, *, before: str = "", **env: str) -> Any:
    """What a program of Python, whose last value is ``result``, says of its modules and its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")} | env
    environment["PYTHONPATH"] = f"{before}:{ROOT}"
    done = run([sys.executable, "-c", program + PRINT], env=environment, timeout_s=120, log_path=tmp_path / "log")
    return json.loads(done.stdout)


def test_tensorflow_comes_without_keras_or_a_word_and_keras_2_on_first_use(tmp_path: Path) -> None:
    program = f"{PREPARED}import sys, tensorflow as tf\nassert tf.__loader__ is tf.__spec__.loader\n"
    program += "assert 'tensorflow_import' not in type(tf.__loader__).__module__\nsum = tf.add(1, 2).numpy().item()\n"
    program += f"before = [name for name in {HEAVY} if name in sys.modules]\nsys.stderr.write('imported')\n"
    program += "result = [before, sum, type(tf.keras.layers.Dense(1)).__module__]"
    _, legacy, (before, found, module) = python(program, tmp_path)
    assert (before, found, legacy) == ([], 3, "1") and module.startswith("tf_keras.")
    assert (tmp_path / "log.err").read_text().startswith("imported"), "the import writes nothing"


def test_notes_are_dropped_and_the_last_words_of_a_crash_are_not(tmp_path: Path) -> None:
    fake = "import os\nos.write(2, b'I0000 00:00:1 a.cc:1] note\\nF0000 00:00:1 a.cc:1] wants AVX\\n')\nos.abort()"
    (tmp_path / "tensorflow.py").write_text(fake)
    with pytest.raises(ProcessError) as raised:
        python(f"{PREPARED}import tensorflow\nresult = 1", tmp_path, before=str(tmp_path))
    assert "note" not in raised.value.stderr
    for _ in range(100):  # the filter may still be writing
        if (tmp_path / "log.err").read_text():
            break
        time.sleep(0.05)
    assert (tmp_path / "log.err").read_text() == "F0000 00:00:1 a.cc:1] wants AVX\n"


def test_users_choice_of_keras_stays(tmp_path: Path) -> None:
    program = f"{PREPARED}import tensorflow as tf\nresult = tf.keras.__version__[0]"
    loaded, *rest = python(program, tmp_path, TF_USE_LEGACY_KERAS="0")
    assert "keras" in loaded and "tf_keras" not in loaded
    assert rest == ["0", "3"]


def test_keras_that_is_imported_first_is_whole(tmp_path: Path) -> None:
    program = (
        f"{PREPARED}import tf_keras, tensorflow as tf\nresult = tf.keras.optimizers.Adam is tf_keras.optimizers.Adam"
    )
    assert python(program, tmp_path)[2] is True


def test_users_module_that_imports_tensorflow_gets_keras_2(tmp_path: Path) -> None:
    (tmp_path / "users.py").write_text(
        "import tensorflow as tf\ndef get_model():\n    return type(tf.keras.layers.Dense(1)).__module__"
    )
    program = (
        "from deployment_toolkit.core import ModelModule\nfrom deployment_toolkit.options.plugins import load_module\n"
    )
    program += f"result = load_module({str(tmp_path / 'users.py')!r}, ModelModule).get_model()"
    assert python(program, tmp_path)[2].startswith("tf_keras.")


@pytest.mark.parametrize(
    ("tensorflow", "wanted"), [(GUARDED, [[], "1", None]), (UNGUARDED, [["tf_keras"], "1", "keras"])]
)
def test_tensorflow_that_needs_keras_gets_it(tmp_path: Path, tensorflow: str, wanted: list[Any]) -> None:
    for name, text in {"tensorflow/__init__.py": tensorflow, **FAKE_KERAS}.items():
        (tmp_path / "fake" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fake" / name).write_text(text)
    program = f"{PREPARED}import tensorflow\nresult = tensorflow.found"
    assert python(program, tmp_path, before=str(tmp_path / "fake")) == wanted


def test_environment_is_written_where_tensorflow_is_imported_only(tmp_path: Path) -> None:
    program = f"{PREPARED}import importlib.util\nfound = importlib.util.find_spec('tensorflow')\n"
    program += "result = 'tensorflow' in sys.modules"
    assert python(f"import sys\n{program}", tmp_path) == [[], None, False]

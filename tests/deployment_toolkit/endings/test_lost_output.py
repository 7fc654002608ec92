from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = """if True:
    import sys
    from deployment_toolkit.options.params import run_entry_point
    def main(argv):
        for number in range(10**6):
            print(number)
    run_entry_point(main)"""
TELLS = """if True:
    import sys
    from deployment_toolkit.endings.lost_output import write_output
    from deployment_toolkit.options.params import run_entry_point
    def main(argv):
        for number in range(3):
            write_output(sys.stdout, str(number))
        print("at its end", file=sys.stderr)
    run_entry_point(main)"""


@pytest.mark.parametrize("program", [PRINTS, TELLS.replace("3", "10**6")], ids=["print", "write_output"])
def test_program_ends_without_a_traceback_when_its_reader_has_ended(program: str) -> None:
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        told = process.stderr.read().decode()
    assert process.returncode == 130
    assert told in ("", "interrupted\n")


def test_program_goes_on_when_the_disk_of_its_output_is_full() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", TELLS], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"at its end\n")

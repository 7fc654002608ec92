"""Compiles the C++ host, if necessary, and prints its path: ``python -m deployment_toolkit.cpp_host``."""

from __future__ import annotations

from deployment_toolkit.cpp_host.library import build_library
from deployment_toolkit.options.params import make_parser, run_entry_point


def main(argv: list[str]) -> int:
    """Prints the library's path."""
    make_parser(__doc__ or "").parse_args(argv)
    print(build_library())
    return 0


if __name__ == "__main__":
    run_entry_point(main)

"""Start of Model Analyzer with the server's key in its load requests, since it has no option for a key.

This script runs in Model Analyzer's virtual environment, so it imports nothing of this project.
"""

from __future__ import annotations

import functools
import json
import os
import runpy
import sys

import tritonclient.grpc
import tritonclient.http

_HEADERS = "WIDE_DEEP_KEY_HEADERS"  # by protocol, in the environment, which no other user can read


def main() -> None:
    headers = json.loads(os.environ[_HEADERS])
    for protocol, module in (("grpc", tritonclient.grpc), ("http", tritonclient.http)):
        client = module.InferenceServerClient
        for name in ("load_model", "unload_model", "get_model_repository_index"):
            setattr(client, name, functools.partialmethod(getattr(client, name), headers=headers[protocol]))
    sys.argv[0] = "model-analyzer"
    runpy.run_module("model_analyzer.entrypoint", run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    main()

"""OpenVINO models: runtime, graph passes, bf16 and int8.

The import of OpenVINO starts a thread that forks a process, which reports the import to its makers over the network. A
fork while another thread imports can hang both, and nobody was asked. Without this package OpenVINO reports nothing.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

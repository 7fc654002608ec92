"""OpenVINO models: runtime, graph passes, bf16 and int8."""

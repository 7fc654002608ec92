"""A mock of onnxruntime's CUDA provider for machines without a GPU: its sessions compute on the CPU and claim to run on
the GPU. ``told`` has the options that the provider gets."""

from __future__ import annotations

from typing import Any

import onnxruntime
import pytest

MOCK_CUDA = "CUDAExecutionProvider"


class MockCudaProvider:
    """Replaces onnxruntime's CUDA provider until the end of the test; ``failure`` is the error that it raises at its
    start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failure: str = "") -> None:
        self.told: dict[str, str] = {}
        real_session = onnxruntime.InferenceSession
        mock = self

        class MockCudaSession:
            def __init__(self, path: str, options: Any, providers: list[Any], **kwargs: Any) -> None:
                if failure:
                    raise RuntimeError(failure)
                assert kwargs == {"enable_fallback": 0}
                (name, mock.told), *others = providers
                assert (name, others) == (MOCK_CUDA, ["CPUExecutionProvider"])
                self._session = real_session(path, options, providers=others)

            def get_providers(self) -> list[str]:
                return [MOCK_CUDA, *self._session.get_providers()]

            def __getattr__(self, name: str) -> Any:
                return getattr(self._session, name)

        mock_available_cuda(monkeypatch)
        monkeypatch.setattr(onnxruntime, "InferenceSession", MockCudaSession)


def mock_available_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes onnxruntime say it was built for CUDA 13, as its build for GPUs does on a machine without a GPU."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [MOCK_CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")

"""A mock of onnxruntime's CUDA provider for machines without a GPU: its sessions compute on the CPU and say that they
are the GPU's. What the provider is told is kept in ``told``."""

from __future__ import annotations

from typing import Any

import onnxruntime
import pytest

MOCK_CUDA = "CUDAExecutionProvider"


class MockCudaProvider:
    """In place of onnxruntime's own provider until the test's end; ``failure`` is what it raises at its start."""

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
    """onnxruntime says it was built for CUDA 13, as the one for GPUs does where there is none."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [MOCK_CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")

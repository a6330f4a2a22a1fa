"""Snapshots on PyTorch: tensors of their own, filled by one call for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pykguard._processes import gather
from pykguard.snapshots._base import Part
from pykguard.snapshots._copying import CopyingSnapshots


class TorchSnapshots(CopyingSnapshots):
    """Keeps training states in tensors on the devices of the model's."""

    def _parts(self, variables: Sequence[Any]) -> list[Part]:
        return [Part(variable.value, variable) for variable in variables]

    def _duplicate(self, parts: Sequence[Part]) -> Sequence[Any]:
        copies = [torch.empty_like(_tensor(part)) for part in parts]
        self._refill(parts, copies)
        return copies

    @torch.no_grad()
    def _refill(self, parts: Sequence[Part], copies: Sequence[Any]) -> Sequence[Any]:
        if copies:
            torch._foreach_copy_(list(copies), [_tensor(part) for part in parts])
        return copies

    def _equal(self, parts: Sequence[Part], copies: Sequence[Any]) -> list[bool]:
        return [torch.equal(_tensor(p), c) for p, c in zip(parts, copies, strict=True)]

    @torch.no_grad()
    def _write(self, parts: Sequence[Part], values: Sequence[Any]) -> None:
        torch._foreach_copy_([_tensor(part) for part in parts], list(values))

    @torch.no_grad()
    def _non_finite(self, parts: Sequence[Part]) -> list[Part]:
        """Those that hold a NaN or an infinity.

        A sum is finite only if every term is, and adding up is the fastest way to read a tensor; a
        sum may overflow where no term does, so those that are not finite are looked at closely.
        """
        floating = [part for part in parts if _tensor(part).is_floating_point()]
        if not floating:
            return []
        sums = [_tensor(part).sum(dtype=torch.float32) for part in floating]
        finite = torch.stack([each.to(sums[0].device) for each in sums]).isfinite().tolist()
        suspects = [part for part, is_finite in zip(floating, finite, strict=True) if not is_finite]
        return [part for part in suspects if not bool(torch.isfinite(_tensor(part)).all())]

    def _agreed(self, broken: list[str]) -> list[str]:
        if self.alone:
            return broken
        return sorted({name for found in gather(broken) for name in found})

    def _matrix(self, part: Part) -> Any:
        tensor = _tensor(part)
        return tensor.reshape(-1, tensor.shape[-1])

    def _load(self, part: Part, array: np.ndarray[Any, Any]) -> Any:
        like = _tensor(part)
        return torch.as_tensor(np.array(array, order="C")).to(like.device, like.dtype)


def _tensor(part: Part) -> Any:
    return part.handle.detach()

"""robosuite's quaternions, x y z w, in the single precision that it computes them in."""

from __future__ import annotations

import torch
from torch import Tensor


def scalar_last(quaternion: Tensor) -> Tensor:
    """Quaternions w x y z, as MuJoCo has them, as x y z w, ``(N, 4)``."""
    return quaternion[:, [1, 2, 3, 0]]


def quaternion_of(matrix: Tensor) -> Tensor:
    """Of rotation matrices ``(N, 3, 3)``, with w not negative, float32 ``(N, 4)``."""
    m = matrix
    x, y, z = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    xy, xz, yz = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    xw, yw, zw = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    rows = (
        (1.0 + x - y - z, xy, xz, xw),
        (xy, 1.0 - x + y - z, yz, yw),
        (xz, yz, 1.0 - x - y + z, zw),
        (xw, yw, zw, 1.0 + x + y + z),
    )
    products = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)  # 4 q q^T
    largest = torch.diagonal(products, dim1=1, dim2=2).argmax(dim=1)
    quaternion = products.gather(1, largest[:, None, None].expand(-1, 1, 4)).squeeze(1)
    quaternion = torch.nn.functional.normalize(quaternion, dim=1)
    return torch.where(quaternion[:, 3:] < 0, -quaternion, quaternion).to(torch.float32)


def matrix_of(quaternion: Tensor) -> Tensor:
    """Of quaternions x y z w ``(N, 4)``, ``(N, 3, 3)`` float32."""
    q = quaternion.to(torch.float32)
    square = (q * q).double().sum(dim=1, keepdim=True).float().double()
    q = (q.double() * torch.sqrt(2.0 / square)).float()
    x, y, z, w = q.unbind(dim=1)
    rows = (
        (1.0 - y * y - z * z, x * y - z * w, x * z + y * w),
        (x * y + z * w, 1.0 - x * x - z * z, y * z - x * w),
        (x * z - y * w, y * z + x * w, 1.0 - x * x - y * y),
    )
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def relative_pose(position: Tensor, quaternion: Tensor, base: Tensor, base_quaternion: Tensor) -> tuple[Tensor, Tensor]:
    """A pose seen from another, all ``(N, 3)`` and ``(N, 4)``: position float64, quaternion float32."""
    turn = matrix_of(base_quaternion).double().transpose(1, 2)
    offset = turn @ position.float().double()[:, :, None] - turn @ base.float().double()[:, :, None]
    return offset.squeeze(2), quaternion_of(turn @ matrix_of(quaternion).double())

"""MP4 files that browsers play, with the codecs PyAV's wheel ships."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.codec.codec import UnknownCodecError

from fermo.errors import FermoError

_CODECS = ("libx264", "h264", "mpeg4")


def write_mp4(path: Path | str, frames: Iterable[np.ndarray], fps: float) -> Path:
    """Write pictures ``(height, width, 3)`` uint8 as a video; the file appears only once it is whole.

    Sides of odd length lose their last row or column, since the pixel format (yuv420p, the one browsers play) stores
    colour for 2 x 2 pixels.

    Args:
        path: Where to; a missing folder is made.
        frames: At least one picture, all of one size; a generator is encoded as it comes.
        fps: Pictures a second.

    Raises:
        FermoError: No frames, frames of different sizes or types, or a frame rate that is not positive.
    """
    if not fps > 0:
        raise FermoError(f"a video needs a positive frame rate, got {fps}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(suffix=".mp4", prefix=f".{path.stem}-", dir=path.parent)
    os.close(handle)
    try:
        _encode(unfinished, frames, Fraction(fps).limit_denominator(1001))
        os.chmod(unfinished, 0o666 & ~_umask())
        os.replace(unfinished, path)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return path


def _encode(file: str, frames: Iterable[np.ndarray], rate: Fraction) -> None:
    # The index comes first, so that a page can show the video before it has all of it.
    with av.open(file, "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream: av.VideoStream | None = None
        shape: tuple[int, ...] | None = None
        for picture in frames:
            if stream is None:
                shape = _check(picture, picture.shape)
                stream = cast(av.VideoStream, container.add_stream(_codec(), rate=rate))
                stream.height, stream.width, stream.pix_fmt = shape[0] // 2 * 2, shape[1] // 2 * 2, "yuv420p"
            _check(picture, shape)
            even = np.ascontiguousarray(picture[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is None:
            raise FermoError("a video needs at least one frame")
        container.mux(stream.encode())


def _check(picture: np.ndarray, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < 2:
        raise FermoError(f"a frame is (height, width, 3) uint8, at least 2 x 2, got {picture.shape} {picture.dtype}")
    if picture.shape != shape:
        raise FermoError(f"all frames of a video have one size: the first was {shape}, then came {picture.shape}")
    return picture.shape


def _codec() -> str:
    for name in _CODECS:
        try:
            av.Codec(name, "w")
        except UnknownCodecError:
            continue
        return name
    raise FermoError(f"this build of PyAV encodes none of {', '.join(_CODECS)}; install the wheel: pip install av")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

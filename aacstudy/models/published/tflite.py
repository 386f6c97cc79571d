"""Weights of a ``.tflite`` file, without running anything in it.

Such a file is a flatbuffer: tables whose fields are found by their slot. The little that is read
here needs no package. No byte is taken before it is known that the file holds it.
Slots and codes: tensorflow/lite/schema/schema.fbs.
"""

import math
import struct
from typing import NamedTuple

import numpy as np

DTYPES = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 9: np.dtype("i1")}  # of its tensor types
CONV, DEPTHWISE, DEQUANTIZE, LINEAR = 3, 4, 6, 9  # of its operators
SAME, RELU = 0, 1  # of its paddings and activations
MOST = 10_000  # tables in a list; a network has hundreds


class Table(NamedTuple):
    """A table of a flatbuffer. Whatever lies outside of the file raises ValueError."""

    data: bytes
    at: int  # of the table in data

    def _read(self, code: str, at: int) -> int:
        if not 0 <= at <= len(self.data) - struct.calcsize(code):
            raise ValueError("damaged or cut off: an offset leads out of the file")
        return struct.unpack_from(code, self.data, at)[0]

    def _place(self, slot: int) -> int:
        """Where a field lies; 0 where the table leaves it out."""
        fields = self.at - self._read("<i", self.at)
        known = 2 * slot + 6 <= self._read("<H", fields)
        offset = self._read("<H", fields + 4 + 2 * slot) if known else 0
        return self.at + offset if offset else 0

    def number(self, slot: int, code: str, default: int = 0) -> int:
        """A number, in the format of struct."""
        place = self._place(slot)
        return self._read(code, place) if place else default

    def table(self, slot: int) -> "Table | None":
        """A table inside of this one, if it has it."""
        place = self._place(slot)
        return Table(self.data, place + self._read("<I", place)) if place else None

    def _vector(self, slot: int) -> tuple[int, int]:
        """Where the items of a vector begin, and their number; one that is left out is empty."""
        place = self._place(slot)
        if not place:
            return 0, 0
        begin = place + self._read("<I", place)
        return begin + 4, self._read("<I", begin)

    def array(self, slot: int, dtype: str | np.dtype) -> np.ndarray:
        """A vector of numbers: a view of the file's bytes."""
        begin, count = self._vector(slot)
        if begin + count * np.dtype(dtype).itemsize > len(self.data):
            raise ValueError("damaged or cut off: a list in it is longer than the file")
        return np.frombuffer(self.data, dtype, count, begin)

    def tables(self, slot: int) -> list["Table"]:
        """A vector of tables."""
        begin, _ = self._vector(slot)
        offsets = self.array(slot, "<u4")
        if len(offsets) > MOST:  # in a damaged file it may be millions
            raise ValueError(f"damaged: {len(offsets)} tables in one list")
        return [Table(self.data, begin + 4 * i + offset) for i, offset in enumerate(offsets.tolist())]


class Layer(NamedTuple):
    """An operator with weights."""

    code: int
    settings: tuple[int, ...]  # of a convolution: padding, strides and activation
    tensors: list[Table | None]  # weight and bias, as far as there are any
    buffers: list[Table]  # of the whole file


def layers(data: bytes) -> list[Layer]:
    """Convolutions and linear layers of a file's first graph, in the order in which they run.

    Raises ValueError that says what is wrong, without the file's name.
    """
    if data[4:8] != b"TFL3":
        raise ValueError("no TFLite file: its bytes 4 to 8 are not TFL3")
    model = Table(data, struct.unpack_from("<I", data)[0])
    codes = [max(one.number(0, "b"), one.number(3, "<i")) for one in model.tables(1)]
    graphs, buffers = model.tables(2), model.tables(4)
    if not graphs:
        raise ValueError("no graph in it")
    tensors = graphs[0].tables(0)
    found, source = [], {}  # source: tensor -> the one it is dequantised from
    for operator in graphs[0].tables(3):
        index, options = operator.number(0, "<I"), operator.table(4)
        inputs, outputs = operator.array(1, "<i4"), operator.array(2, "<i4")
        code = codes[index] if index < len(codes) else None
        if code == DEQUANTIZE and len(inputs) == len(outputs) == 1:
            source[outputs[0]] = inputs[0]
        elif code in (CONV, DEPTHWISE, LINEAR):
            held = [source.get(one, one) for one in inputs[1:3]]
            held = [tensors[one] if 0 <= one < len(tensors) else None for one in held]
            settings = ()
            if options and code != LINEAR:  # a depthwise one has its depth multiplier in slot 3
                slots = ((0, "b"), (1, "<i"), (2, "<i"), (3 if code == CONV else 4, "b"))
                settings = tuple(options.number(*slot) for slot in slots)
            found.append(Layer(code, settings, held, buffers))
    return found


def values(tensor: Table, buffers: list[Table], shape: tuple[int, ...]) -> np.ndarray:
    """A tensor, which must have this shape, as float32; int8 is multiplied by its scales.

    Raises ValueError that says what is wrong, without the file's name.
    """
    found = tuple(tensor.array(0, "<i4").tolist())
    if found != shape:
        raise ValueError(f"shape {found}, not {shape}")
    kind, buffer = tensor.number(1, "b"), tensor.number(2, "<I")
    if kind not in DTYPES:
        raise ValueError(f"numbers of the schema's type {kind}; float32, float16 and int8 can be read")
    data = buffers[buffer].array(0, "u1") if buffer < len(buffers) else np.empty(0, "u1")
    if data.nbytes != math.prod(shape) * DTYPES[kind].itemsize:
        raise ValueError(f"{data.nbytes} bytes, not {math.prod(shape) * DTYPES[kind].itemsize}")
    result = data.view(DTYPES[kind]).reshape(shape).astype(np.float32)
    if DTYPES[kind].kind == "i":
        about = tensor.table(4)
        scales = about.array(2, "<f4") if about else np.empty(0, "<f4")
        zeros, axis = (about.array(3, "<i8"), about.number(6, "<i")) if about else (scales, 0)
        axis = axis if len(scales) > 1 else 0
        if not 0 <= axis < len(shape) or len(scales) not in (1, shape[axis]) or zeros.any():
            raise ValueError(f"int8 with {len(scales)} scales; one, or one a channel, around zero is read")
        with np.errstate(invalid="ignore", over="ignore"):  # said below
            result *= scales.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    if not np.isfinite(result).all():
        raise ValueError("NaN or infinity in it")
    return result

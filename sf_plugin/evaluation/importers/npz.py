"""Read .npz files that hold pickled objects without running anything that is in them.

Published sets keep lists of dicts as object arrays, which numpy reads only with
`allow_pickle=True`: such a file may run any code.  Here a pickle can make nothing but
numbers, text, dicts and arrays of them; every other name in it is refused.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from sf_plugin.errors import ScoreError

_PLAIN = (bool, int, float, str)
_CODE = re.compile(r"[biufSU]\d+|O8?")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name.

    Elements of object arrays are numbers, text, or dicts of those; whatever else a
    dict holds is left out.

    Raises:
        ScoreError: the file is missing, damaged, or holds objects of other types.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = [name for name in file.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _member(file, name) for name in members}
    except FileNotFoundError:
        raise ScoreError(f"{path}: no such file: check that the set is complete") from None
    except Exception as error:  # whatever a damaged or forged file makes of its readers
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScoreError(f"{path}: cannot be read ({reason}): download the set again") from None


def _member(file: zipfile.ZipFile, name: str) -> np.ndarray:
    with file.open(name) as member:
        version = npy.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} has npy version {version}")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(member)
        if not dtype.hasobject:
            member.seek(0)
            return np.asarray(npy.read_array(member, allow_pickle=False))
        found = _Unpickler(member).load()
    if not isinstance(found, _Array) or found.values.shape != shape:
        raise ValueError(f"{name} holds no array of its shape")
    plain = np.empty(shape, object)
    for index, item in np.ndenumerate(found.values):
        plain[index] = _plain(item)
    return plain


def _plain(item: Any) -> Any:
    if isinstance(item, dict):
        return {k: v for k, v in item.items() if type(k) in _PLAIN and type(v) in _PLAIN}
    if item is None or type(item) in _PLAIN:
        return item
    raise ValueError(f"a {type(item).__name__.strip('_').lower()} inside an array of objects")


class _Dtype:
    """Stands for a numpy dtype while a pickle is read: numbers, text or objects."""

    def __init__(self, code: str, *_: object) -> None:
        if not _CODE.fullmatch(code):
            raise pickle.UnpicklingError(f"dtype {code[:20]!r} is not admitted")
        self._code, self._order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, subarray, names, fields, *_ = state
        if order not in ("<", ">", "=", "|") or subarray or names or fields:
            raise pickle.UnpicklingError("a structured dtype is not admitted")
        self._order = order

    @property
    def dtype(self) -> np.dtype[Any]:
        if self._code.startswith("O"):
            return np.dtype(object)
        return np.dtype(self._order + self._code)


class _Array:
    """Stands for a numpy array while a pickle is read."""

    values: np.ndarray = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        kind = dtype.dtype
        if kind.hasobject:
            flat = np.empty(len(data), object)
            for i, item in enumerate(data):
                flat[i] = item
        else:
            flat = np.frombuffer(data, kind)
        self.values = flat.reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: object, *_: object) -> _Array:
    if kind is not _Array:
        raise pickle.UnpicklingError("an array of another class is not admitted")
    return _Array()


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    if dtype.dtype.hasobject:
        raise pickle.UnpicklingError("an object scalar is not admitted")
    return np.frombuffer(data, dtype.dtype)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the pickle protocol of Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding[:20]!r} is not admitted")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which may run code")
        return _ADMITTED[module, name]

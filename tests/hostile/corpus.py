"""Files as attackers, damaged disks and other programs leave them, made for tests."""

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tiny_datasets

TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "half of it": b'{"a": [1, ',
    "a list": b"[]",
    "a list of lists": b"[[[]]]",
    "a number": b"3",
    "null": b"null",
    "a text": b'"x"',
    "nested without end": b"[" * 100_000,
    "mappings nested without end": b'{"a":' * 100_000,
    "nested, and whole": b"[" * 900 + b"]" * 900,
    "not a number": b"NaN",
    "an integer of 5000 digits": b"9" * 5000,
    "no UTF-8": b'{"\xff\xfe": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "zeros": bytes(100),
    "half a character": b'{"\\ud800": "\\ud800"}',
    "names of objects": b'{"__class__": "os.system", "__init__": {}}',
    "a tag of YAML": b"!!python/object/apply:os.system [true]",
    "contains itself": b"&a [*a]",
    "all keys, odd values": b'{"format": [], "labels": 3, "training": {}, "test": 1, '
    b'"modality": 7, "channel_names": [[]], "file_ending": 2, "name": {}, "seed": [], '
    b'"recipe": 1, "cases": "x", "config": 0, "label_map": [], "shape": "abc", '
    b'"record": 1, "checksums": [], "rules": 1, "dice": 2, "validation": 3}',
    "all keys, empty": b'{"labels": {}, "training": [], "test": [], "modality": {}, '
    b'"channel_names": {}, "file_ending": "", "label_map": {}, "rules": {}, '
    b'"numTraining": 0, "experiment": {}, "hypotheses": {}, "validation": {}}',
}
"""What may lie where JSON or YAML is expected. None of it can be used."""


def nifti(**header: Any) -> bytes:
    """Return a small NIfTI-1 file with some fields of its header replaced."""
    image = nib.Nifti1Image(tiny_datasets.head(), tiny_datasets.AFFINE)
    content = image.to_bytes()
    fields = np.frombuffer(content[:348], nib.Nifti1Header.template_dtype).copy()
    for name, value in header.items():
        fields[name] = value
    return fields.tobytes() + content[348:]


HEADERS: dict[str, bytes] = {
    "30,000 voxels a side": nifti(dim=(3, 30_000, 30_000, 30_000, 1, 1, 1, 1)),
    "negative sides": nifti(dim=(3, -12, 14, 10, 1, 1, 1, 1)),
    "a side of nothing": nifti(dim=(3, 0, 14, 10, 1, 1, 1, 1)),
    "no axes": nifti(dim=(0, 12, 14, 10, 1, 1, 1, 1)),
    "nine axes": nifti(dim=(9, 12, 14, 10, 1, 1, 1, 1)),
    "two axes": nifti(dim=(2, 12, 14, 1, 1, 1, 1, 1)),
    "an unknown type": nifti(datatype=9999),
    "colours": nifti(datatype=128, bitpix=24),
    "complex numbers": nifti(datatype=32, bitpix=64),
    "a type of other size": nifti(datatype=64, bitpix=8),
    "an offset behind the end": nifti(vox_offset=1e30),
    "an offset that is no number": nifti(vox_offset=np.nan),
    "a negative offset": nifti(vox_offset=-352),
    "an endless slope": nifti(scl_slope=np.inf, scl_inter=1.0),
    "a slope without end": nifti(scl_slope=1e38, scl_inter=1e38),
    "a position of no number": nifti(srow_x=np.nan, sform_code=1),
    "no position": nifti(srow_x=0, srow_y=0, srow_z=0, sform_code=1, qform_code=0),
    "voxels without size": nifti(pixdim=0, sform_code=0, qform_code=1),
    "an unknown magic": nifti(magic=b"abc"),
    "another size of header": nifti(sizeof_hdr=1),
}
"""Volumes with damaged headers, as `.nii`."""


def _stream_of_zeros() -> bytes:
    return gzip.compress(nifti() + bytes(80 * 2**20), 1)


STREAMS: dict[str, Callable[[], bytes]] = {
    "nothing": bytes,
    "text": lambda: b"not a stream",
    "a stream of text": lambda: gzip.compress(b"not a volume"),
    "half a stream": lambda: gzip.compress(nifti())[:200],
    "a wrong checksum": lambda: gzip.compress(nifti())[:-8] + bytes(8),
    "a stream that goes on": _stream_of_zeros,
    "30,000 voxels a side": lambda: gzip.compress(HEADERS["30,000 voxels a side"]),
    "an archive": lambda: b"PK\x03\x04" + bytes(100),
    "a header alone": lambda: gzip.compress(nifti()[:348]),
    "an endless extension": lambda: gzip.compress(
        nifti()[:348] + struct.pack("<4b2i", 1, 0, 0, 0, 2**31 - 1, 6) + nifti()[352:]
    ),
}
"""What may lie where a `.nii.gz` is expected."""


def make_folder(path: Path) -> None:
    """Put a folder where a file is expected."""
    path.mkdir()


def make_loop(path: Path) -> None:
    """Put a link to itself where a file is expected."""
    path.symlink_to(path)


def make_dangling(path: Path) -> None:
    """Put a link to nothing where a file is expected."""
    path.symlink_to(path.with_name("gone"))


def make_pipe(path: Path) -> None:
    """Put a pipe that nobody writes to where a file is expected."""
    os.mkfifo(path)


PLACES: dict[str, Callable[[Path], None]] = {
    "a folder": make_folder,
    "a link to itself": make_loop,
    "a link to nothing": make_dangling,
    "a pipe": make_pipe,
}
"""What may be in the place of a file without being one."""

SETTINGS: dict[str, str] = {
    "a shape of 100,000 a side": "shape=[100000,100000,100000]",
    "a shape beyond integers": "shape=[1e30,1e30,1e30]",
    "a shape of text": "shape=[a,b,c]",
    "voxels of a nanometre": "spacing_mm=[1e-6,1e-6,1e-6]",
    "voxels of almost nothing": "spacing_mm=[1e-300,1e-300,1e-300]",
    "voxels that grow to 5,600 a side": "spacing_mm=[0.0025,0.0025,0.0025]",
    "voxels of no number": "spacing_mm=[.nan,1,1]",
    "endless voxels": "spacing_mm=[.inf,1,1]",
    "a patch of a million": "patch=1000000",
    "a batch of 10^12": "batch=1000000000000",
    "a relative network": "network=..:X",
    "a network of nothing": "network=:",
    "a network of no class": "network=os:path",
    "a network that is a file": "network=/etc/passwd",
    "options of no network": "network_options={depth: -1}",
    "options of many layers": "network_options={depth: 1000000}",
    "options of text": "network_options={base_filters: a}",
    "options with odd names": "network_options={1: 2}",
    "10^9 workers": "workers=1000000000",
    "no folds": "folds=0",
    "a fold too many": "fold=5000000000",
    "steps of no number": "steps=.nan",
    "steps without end": "steps=.inf",
    "a rate of no number": "learning_rate=.nan",
    "a rate without end": "learning_rate=.inf",
    "a seed beyond integers": "seed=1180591620717411303424",
    "memory without end": "device_memory=1e999GiB",
    "memory of text": "device_memory=[1]",
    "a mesh of 10^9": "mesh=data=1000000000",
    "a mesh of text": "mesh=[[[[1]]]]",
    "a pattern of no end": "patient=(",
    "labels of lists": "labels={a: [[1]]}",
    "labels beyond integers": "labels={a: 100000000000000000000000000}",
    "labels without end": "labels={a: .inf}",
    "labels that are names": "labels={[a]: 1}",
    "weights of no region": "class_weights={nothing: 1}",
    "weights of text": "class_weights={background: x}",
    "augmentation of text": "augment={rotation_degrees: x}",
    "augmentation without end": "augment={rotation_degrees: [.nan, .inf]}",
    "axes that are not there": "augment={mirror_axes: [7, -9]}",
    "a date": "seed=2001-01-01",
    "bytes": "edition=!!binary aGVsbG8=",
    "a set": "exclude=!!set {a}",
    "an alias of nothing": "exclude=*a",
    "a name of 5000 letters": "edition=" + "a" * 5000,
    "a zero byte": "init_from=a\\0b",
    "no name": "=1",
    "no value": "seed",
}
"""Words of `--set` of which none can be used."""

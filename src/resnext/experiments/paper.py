"""The numbers of the paper, each once, with the table, row and column that it stands in.

Xie, Girshick, Dollár, Tu and He, Aggregated Residual Transformations for Deep Neural Networks,
CVPR 2017. Errors in percent, times in seconds, sizes in millions of parameters, costs in 10^9
multiply-adds. What the algebra derives is here only where the paper states a figure to compare.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number as printed.

    Attributes:
        source: table, figure or section.
        row: which row of it, in the paper's words.
        column: which column.
        value: as printed.
    """

    source: str
    row: str
    column: str
    value: float


def _table(
    source: str, columns: tuple[str, ...], rows: dict[str, tuple[float, ...]]
) -> Iterator[Number]:
    for row, values in rows.items():
        for column, value in zip(columns, values, strict=True):
            yield Number(source=source, row=row, column=column, value=value)


NUMBERS: tuple[Number, ...] = (
    *_table(
        "Table 1",
        ("parameters", "multiply-adds"),
        {"ResNet-50": (25.5, 4.1), "ResNeXt-50 (32x4d)": (25.0, 4.2)},
    ),
    *_table(
        "Table 2",
        ("width", "group width"),
        {"1": (64, 64), "2": (40, 80), "4": (24, 96), "8": (14, 112), "32": (4, 128)},
    ),
    *_table(
        "Table 3",
        ("top-1",),
        {
            "ResNet-50 (1x64d)": (23.9,),
            "ResNeXt-50 (2x40d)": (23.0,),
            "ResNeXt-50 (4x24d)": (22.6,),
            "ResNeXt-50 (8x14d)": (22.3,),
            "ResNeXt-50 (32x4d)": (22.2,),
            "ResNet-101 (1x64d)": (22.0,),
            "ResNeXt-101 (2x40d)": (21.7,),
            "ResNeXt-101 (4x24d)": (21.4,),
            "ResNeXt-101 (8x14d)": (21.3,),
            "ResNeXt-101 (32x4d)": (21.2,),
        },
    ),
    *_table(
        "Table 4",
        ("top-1", "top-5"),
        {
            "ResNet-101 (1x64d)": (22.0, 6.0),
            "ResNeXt-101 (32x4d)": (21.2, 5.6),
            "ResNet-200 (1x64d)": (21.7, 5.8),
            "ResNet-101, wider (1x100d)": (21.3, 5.7),
            "ResNeXt-101 (2x64d)": (20.7, 5.5),
            "ResNeXt-101 (64x4d)": (20.4, 5.3),
        },
    ),
    *_table(
        "Sec. 5.1, residual connections",
        ("with", "without"),
        {"ResNet-50 (1x64d)": (23.9, 31.2), "ResNeXt-50 (32x4d)": (22.2, 26.1)},
    ),
    *_table(
        "Sec. 5.1, performance",
        ("seconds",),
        {
            "ResNet-101 (1x64d)": (0.70,),
            "ResNeXt-101 (32x4d)": (0.95,),
            "ResNeXt-101 (64x4d)": (1.7,),
        },
    ),
    *_table(
        "Table 5",
        ("top-1 at 224", "top-5 at 224", "top-1 at 320", "top-5 at 320"),
        {
            "ResNet-200": (21.7, 5.8, 20.1, 4.8),
            "ResNeXt-101 (64x4d)": (20.4, 5.3, 19.1, 4.4),
        },
    ),
    *_table("Table 5", ("top-1 at 224", "top-5 at 224"), {"ResNet-101": (22.0, 6.0)}),
    *_table(
        "Table 5",
        ("top-1 at 299", "top-5 at 299"),
        {
            "Inception-v3": (21.2, 5.6),
            "Inception-v4": (20.0, 5.0),
            "Inception-ResNet-v2": (19.9, 4.9),
        },
    ),
    *_table(
        "Sec. 5.1, multi-scale dense testing",
        ("top-1", "top-5"),
        {"ResNeXt-101 (64x4d)": (17.7, 3.7)},
    ),
    *_table("Sec. 5.1, ensemble", ("top-5 on the test set",), {"ensemble": (3.03,)}),
    *_table(
        "Table 6",
        ("5K-way top-1", "5K-way top-5", "1K-way top-1", "1K-way top-5"),
        {
            "ResNet-50 (1x64d)": (45.5, 19.4, 27.1, 8.2),
            "ResNeXt-50 (32x4d)": (42.3, 16.8, 24.4, 6.6),
            "ResNet-101 (1x64d)": (42.4, 16.9, 24.2, 6.8),
            "ResNeXt-101 (32x4d)": (40.1, 15.1, 22.2, 5.7),
        },
    ),
    *_table(
        "Table 7",
        ("parameters", "CIFAR-10", "CIFAR-100"),
        {
            "Wide ResNet (28-10)": (36.5, 4.17, 20.50),
            "ResNeXt-29 (8x64d)": (34.4, 3.65, 17.77),
            "ResNeXt-29 (16x64d)": (68.1, 3.58, 17.31),
        },
    ),
    *_table(
        "Table 8",
        ("AP@0.5", "AP"),
        {
            "ResNet-50 (1x64d)": (47.6, 26.5),
            "ResNeXt-50 (32x4d)": (49.7, 27.5),
            "ResNet-101 (1x64d)": (51.1, 29.8),
            "ResNeXt-101 (32x4d)": (51.9, 30.0),
        },
    ),
)


def number(source: str, row: str, column: str) -> float | None:
    """What the paper says there; None where it says nothing."""
    for one in NUMBERS:
        if (one.source, one.row, one.column) == (source, row, column):
            return one.value
    return None

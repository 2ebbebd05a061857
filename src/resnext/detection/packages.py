"""COCO's own code, which is an extra: imported where it is used, its absence said in one line."""

from typing import Any

from resnext.errors import UsageError


def coco_masks() -> Any:
    """The module that draws masks.

    Raises:
        UsageError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise _missing("pycocotools") from error
    return mask


def coco_classes(backend: str) -> tuple[Any, Any]:
    """The classes COCO and COCOeval: of COCO's own code, or of a faster one with equal answers.

    Raises:
        UsageError: the package is not installed, or there is no such backend.
    """
    if backend == "pycocotools":
        try:
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        except ImportError as error:
            raise _missing("pycocotools") from error
        return COCO, COCOeval
    if backend != "faster":
        raise UsageError(f"expected backend pycocotools or faster, found {backend!r}")
    try:
        import faster_coco_eval
    except ImportError as error:
        raise _missing("faster-coco-eval") from error
    return faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster


def _missing(package: str) -> UsageError:
    extra = "'resnext[coco]'" if package == "pycocotools" else package
    return UsageError(f"expected the package {package}, found none; pip install {extra}")

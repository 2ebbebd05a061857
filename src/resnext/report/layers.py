"""Layers in words, as Table 1 writes them: for terminals, pages and drawings alike."""

from resnext.spec import Block, Conv, Spec


def stem_text(conv: Conv) -> str:
    """``7×7, 64, stride 2``."""
    stride = f", stride {conv.stride}" if conv.stride > 1 else ""
    return f"{conv.kernel}×{conv.kernel}, {conv.out_channels}{stride}"


def pool_texts(spec: Spec, number: int) -> list[str]:
    """What precedes the blocks of a stage, counted from 0: the stem's pooling, listed in conv2."""
    return ["3×3 max pool, stride 2"] if number == 0 and spec.stem.pool else []


def block_texts(block: Block) -> list[str]:
    """One text per layer of a block: ``3×3, 128, C=32``; of unlike paths, what they are."""
    if not block.homogeneous:
        paths = [f"{p.template} of {'-'.join(map(str, p.kernels))}" for p in block.paths]
        return [f"paths {', '.join(paths)}", f"summed to {block.out_channels}"]
    return [
        f"{conv.kernel}×{conv.kernel}, {conv.out_channels}"
        + (f", C={conv.groups}" if conv.groups > 1 else "")
        for conv in block.convs()
    ]


def classifier_text(spec: Spec) -> str:
    """``average pool, 1000-d fc``."""
    return f"average pool, {spec.classes}-d fc"


def template_text(block: Block) -> str:
    """``32×4d``; of unlike paths one after the other."""
    return " + ".join(f"{p.template.cardinality}×{p.template.width}d" for p in block.paths)

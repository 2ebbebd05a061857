"""The papers of an artifact: its model card, and the configuration by which timm knows it."""

import json
from collections.abc import Iterator
from typing import Any

import resnext
from resnext.catalog import identifier, notation
from resnext.complexity import complexity
from resnext.data.profiles import Profile
from resnext.deploy.describing import preprocessing
from resnext.model.timm_adapter import PREFIX
from resnext.runs.artifacts import CONFIG, RECORD, WEIGHTS, ArtifactRecord, ScoreRecord
from resnext.spec import Spec

TIMM_NAMES = {
    **{
        name: name
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200")
    },
    **{f"resnext{name}": f"resnext{name}" for name in ("50_32x4d", "101_32x4d", "101_32x8d")},
    "resnext101_64x4d": "resnext101_64x4d",
    "resnet50_1x128d": "wide_resnet50_2",
    "resnet101_1x128d": "wide_resnet101_2",
}
"""Our identifiers of networks that timm has too, under its names; torchvision's are the same."""

_TORCHVISION_LACKS = ("resnext101_32x4d", "resnet200")


def timm_name(spec: Spec) -> tuple[str, bool]:
    """What timm calls the network, and whether it knows it without `register_with_timm`."""
    known = notation(spec)
    usual = known.usual().identifier() if known else ""
    if usual in TIMM_NAMES:
        return TIMM_NAMES[usual], True
    return PREFIX + identifier(spec), False


def torchvision_name(spec: Spec) -> str | None:
    """What torchvision calls the network; None if it has no such: all of its own take colours."""
    name, known = timm_name(spec)
    there = known and name not in _TORCHVISION_LACKS and spec.in_channels == 3
    return name if there else None


def timm_config(record: ArtifactRecord, spec: Spec, seen: Profile) -> dict[str, Any]:
    """`config.json` in the layout of timm's hub."""
    prepared = preprocessing(seen)
    side = seen.resolution
    resize = prepared["resize"] or side
    config: dict[str, Any] = {
        "architecture": timm_name(spec)[0],
        "num_classes": spec.classes,
        "num_features": spec.out_channels,
        "pretrained_cfg": {
            "num_classes": spec.classes,
            "input_size": [spec.in_channels, side, side],
            "fixed_input_size": False,
            "interpolation": prepared["interpolation"] or "bilinear",
            "crop_pct": side / resize,
            "crop_mode": "center",
            "mean": prepared["mean"],
            "std": prepared["std"],
            "first_conv": "conv1",
            "classifier": "fc",
            **({} if record.licence is None else {"license": record.licence}),
        },
    }
    if record.classes is not None:
        config["label_names"] = list(record.classes)
    return config


def model_card(record: ArtifactRecord, spec: Spec, seen: Profile) -> str:
    """`README.md` with the front matter of Hugging Face's hub."""
    parts = [
        *_front(record, spec),
        f"# {record.network}",
        "",
        *([record.description, ""] if record.description else []),
        *_facts(record, spec, seen),
        *_scores(record),
        *_use(spec, seen),
        *_origin(record),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _front(record: ArtifactRecord, spec: Spec) -> Iterator[str]:
    """YAML, whose scalars are written as JSON, which it takes as it is."""
    yield "---"
    if record.licence is not None:
        yield f"license: {_word(record.licence)}"
    yield f"library_name: {'timm' if timm_name(spec)[1] else 'resnext'}"
    yield "pipeline_tag: image-classification"
    yield "tags: [image-classification, resnext]"
    if record.scores:
        yield "model-index:"
        yield f"- name: {_word(record.network)}"
        yield "  results:"
        for score in record.scores:
            yield from _result(score)
    yield "---"
    yield ""


def _result(score: ScoreRecord) -> Iterator[str]:
    yield "  - task: {type: image-classification}"
    yield f"    dataset: {{name: {_word(score.data)}, type: {_word(score.data)}}}"
    yield "    metrics:"
    how = f"{score.protocol}, profile {score.profile}"
    yield (
        f"    - {{type: accuracy, name: {_word(f'top-1 ({how})')}, "
        f"value: {100 - score.top1_error:.2f}}}"
    )


def _word(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _facts(record: ArtifactRecord, spec: Spec, seen: Profile) -> Iterator[str]:
    cost = complexity(spec, seen.resolution)
    prepared = preprocessing(seen)
    resize = (
        f"shorter side to {prepared['resize']} pixels ({prepared['interpolation']}), the central "
        if prepared["resize"]
        else "images of "
    )
    side = seen.resolution
    names = record.classes
    yield "| | |"
    yield "|---|---|"
    yield f"| network | {record.network}, from {_cell(_paper())} |"
    yield f"| parameters | {cost.parameters:,} |"
    yield f"| multiply-adds | {cost.multiply_adds:,} at {side}×{side} |"
    yield f"| classes | {spec.classes:,}: {_cell(_few(names))} |"
    yield (
        f"| preprocessing | profile `{seen.name}`: {resize}{side}×{side}, "
        f"{prepared['channels']} from 0 to 1, mean {_numbers(prepared['mean'])}, deviation "
        f"{_numbers(prepared['std'])} |"
    )
    yield f"| licence | {_cell(record.licence or 'not stated')} |"
    yield ""


def _paper() -> str:
    return "Xie et al. 2017, Aggregated Residual Transformations for Deep Neural Networks"


def _few(names: tuple[str, ...] | None) -> str:
    if names is None:
        return "their names are not stated"
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _scores(record: ArtifactRecord) -> Iterator[str]:
    if not record.scores:
        return
    yield "## Scores"
    yield ""
    yield "| top-1 error, % | top-5 error, % | images | protocol | profile | precision | data |"
    yield "|---|---|---|---|---|---|---|"
    for score in record.scores:
        second = "–" if score.top5_error is None else f"{score.top5_error:.2f}"
        images = "" if score.samples is None else f"{score.samples:,}"
        chosen = " (these images chose the epoch)" if score.chosen else ""
        yield (
            f"| {score.top1_error:.2f} | {second} | {images} | {score.protocol} | "
            f"{score.profile} | {score.precision} | {_cell(score.data)}{chosen} |"
        )
    yield ""


def _use(spec: Spec, seen: Profile) -> Iterator[str]:
    name, known = timm_name(spec)
    theirs = torchvision_name(spec)
    yield "## Use"
    yield ""
    yield "```python"
    yield "from resnext.deploy import load"
    yield ""
    yield f'model = load("FOLDER").model()  # profile {seen.name}, see {RECORD}'
    yield "```"
    yield ""
    yield "The same weights in timm" + (" and torchvision:" if theirs else ":")
    yield ""
    yield "```python"
    yield "import timm"
    if not known:
        yield "from resnext.deploy import load"
        yield "from resnext.model.timm_adapter import register_with_timm"
        yield ""
        yield 'register_with_timm([load("FOLDER").spec])'
    yield ""
    yield f'model = timm.create_model("local-dir:FOLDER", pretrained=True)  # {name}, by {CONFIG}'
    if theirs:
        yield ""
        yield "import torchvision"
        yield "from safetensors.torch import load_file"
        yield ""
        yield f"model = torchvision.models.{theirs}(num_classes={spec.classes})"
        yield f'model.load_state_dict(load_file("FOLDER/{WEIGHTS}"))'
    yield "```"
    yield ""


def _origin(record: ArtifactRecord) -> Iterator[str]:
    origin = record.origin
    yield "## Origin"
    yield ""
    if origin.run is None:
        yield f"Weights from a file of SHA-256 `{origin.weights}`."
        return
    recipe = (origin.recipe or {}).get("name", "")
    yield (
        f"Trained on {origin.data} (fingerprint `{(origin.fingerprint or '')[:16]}`) by the recipe "
        f"`{recipe}`, seed {origin.seed}, {origin.epochs} epochs, the best of which these are; "
        f"resnext {resnext.__version__ if not origin.versions else origin.versions['resnext']}, "
        f"torch {origin.versions.get('torch', '')}."
    )
    if origin.initial_weights:
        yield ""
        yield f"It began from `{origin.initial_weights}`."

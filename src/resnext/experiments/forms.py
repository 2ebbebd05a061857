"""Sec. 3.2, Fig. 3: the three forms are one function, shown by training all of them.

"We have trained all three forms and obtained the same results": here from one initialisation,
converted exactly, over the same images in the same order, so that the losses of every update can be
laid over each other. What remains between them is the order in which sums are rounded, which
training magnifies; in float64 it begins nine digits lower.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import resnext
from resnext.catalog import spec as read_spec
from resnext.data import (
    DataSet,
    Profile,
    default_profile,
    evaluation_batches,
    profile,
    train_batches,
)
from resnext.data.digits import is_digits
from resnext.data.loader import Batch, Batches
from resnext.experiments.design import Experiment, Measure, Row, Scale, Small
from resnext.experiments.findings import Findings
from resnext.experiments.measuring import Bench, Tick
from resnext.experiments.study import Job, Study, short
from resnext.model.convert import convert
from resnext.model.forms import Form
from resnext.model.network import ResNeXt, build
from resnext.report.content import Chart, Column, Line, Part, Table, Value
from resnext.runs.epochs import EpochBatches
from resnext.spec import Spec
from resnext.training.batch_norm import use_parts
from resnext.training.optimizer import sgd
from resnext.training.recipe import Recipe
from resnext.training.schedule import rate_of_step

Precision = Literal["float64", "float32"]
FORMS: tuple[Form, ...] = ("grouped", "concat", "split")
LETTERS = {"split": "(a)", "concat": "(b)", "grouped": "(c)"}

UPDATES: dict[Scale, int] = {"paper": 5000, "short": 500, "demo": 400}
"""Of each form; the recipe's whole schedule is drawn over them, in four epochs."""
_EPOCHS = 4

NETWORK = Row(
    id="resnext50_32x4d",
    home="forms",
    label="ResNeXt-50 (32x4d)",
    spec=read_spec("resnext50_32x4d"),
    small=Small(template="8x8d"),
    recipe="imagenet-100",
    profile="torch7-224",
)


def _recipe(study: Study, data: DataSet) -> Recipe:
    """The row's recipe over `UPDATES` updates."""
    choices = study.choices
    updates = UPDATES[choices.scale]
    plain = NETWORK.recipe_at(
        choices.scale, len(data.classes), is_digits=is_digits(data), epochs=choices.epochs
    )
    epochs = choices.epochs or _EPOCHS
    return plain.with_epochs(epochs).model_copy(update={"epoch_steps": updates // _EPOCHS})


def _settings(precision: Precision, study: Study, seed: int) -> dict[str, Any]:
    data = study.data_of(NETWORK)
    assert data is not None
    return {
        "precision": precision,
        "seed": seed,
        "spec": study.spec(NETWORK, data).to_dict(),
        "recipe": _recipe(study, data).model_dump(mode="json"),
        "profile": _profile(study, data).name,
    }


def _profile(study: Study, data: DataSet) -> Profile:
    demo = study.choices.scale == "demo" or NETWORK.profile is None
    return default_profile(data) if demo else profile(str(NETWORK.profile))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One form to train in one precision."""

    bench: Bench
    spec: Spec
    recipe: Recipe
    seen: Profile
    precision: Precision

    @property
    def dtype(self) -> torch.dtype:
        return {"float64": torch.float64, "float32": torch.float32}[self.precision]

    def network(self, form: Form) -> ResNeXt:
        """The same initialisation in every form: that of the grouped one, converted."""
        start = build(self.spec, form="grouped", seed=self.bench.job.seed).to(self.dtype)
        return convert(start, form).to(self.bench.device)

    def one_pass(self, number: int, start: int) -> Batches:
        """The images and their augmentation do not depend on the form."""
        return train_batches(
            self.bench.data.train,
            self.seen,
            batch_size=self.recipe.batch_size,
            seed=self.bench.job.seed,
            epoch=number,
            start=start,
            device=self.bench.device,
        )


def _run(precision: Precision, bench: Bench) -> Iterator[Tick | dict[str, Any]]:
    data = bench.data
    recipe = _recipe(bench.study, data)
    task = _Task(
        bench=bench,
        spec=bench.study.spec(NETWORK, data)
        if bench.study.choices.scale == "demo"
        else NETWORK.spec,
        recipe=recipe,
        seen=_profile(bench.study, data),
        precision=precision,
    )
    steps = EpochBatches(len(data.train), recipe).steps
    total = len(FORMS) * recipe.epochs * steps
    losses: dict[str, list[float]] = {}
    errors: dict[str, float] = {}
    weights: dict[str, dict[str, Tensor]] = {}
    for place, form in enumerate(FORMS):
        model = task.network(form)
        losses[form] = []
        for loss in _losses(task, model):
            bench.check()
            losses[form].append(loss)
            done = place * recipe.epochs * steps + len(losses[form])
            yield Tick(done, total, f"{form}, {precision}: loss {loss:.3f}")
        errors[form] = _error(task, model)
        weights[form] = convert(model, "grouped").state_dict()
    yield {
        "losses": losses,
        "validation_error": errors,
        "largest_difference": {
            form: max(abs(a - b) for a, b in zip(losses[form], losses["grouped"], strict=True))
            for form in FORMS[1:]
        },
        "first_difference": {
            form: abs(losses[form][0] - losses["grouped"][0]) for form in FORMS[1:]
        },
        "weights_difference": {
            form: _farthest(weights[form], weights["grouped"]) for form in FORMS[1:]
        },
    }


def _losses(task: _Task, model: nn.Module) -> Iterator[float]:
    """The recipe, update by update; yields the mean loss of each batch before its update."""
    recipe = task.recipe
    if recipe.bn_batch:
        use_parts(model, recipe.bn_batch)
    optimizer = sgd(model, recipe)
    epochs = EpochBatches(len(task.bench.data.train), recipe)
    for epoch in range(1, recipe.epochs + 1):
        batches = epochs.batches(epoch, 0, task.one_pass)
        for step, batch in enumerate(batches, start=1):
            model.train()
            for group in optimizer.param_groups:
                group["lr"] = rate_of_step(recipe, epoch, step, epochs.steps) * group["factor"]
            loss = F.cross_entropy(*_answers(task, model, batch))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            yield float(loss.detach())


def _answers(task: _Task, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits and labels."""
    device = task.bench.device
    return model(batch.images.to(device, task.dtype)), batch.labels.to(device)


@torch.inference_mode()
def _error(task: _Task, model: nn.Module) -> float:
    """Top-1 error on the validation images, in percent."""
    images = task.bench.data.validation
    model.eval()
    wrong = 0
    for batch in evaluation_batches(images, task.seen, batch_size=task.recipe.batch_size):
        task.bench.check()
        logits, labels = _answers(task, model, batch)
        wrong += int((logits.argmax(1) != labels).sum())
    return 100 * wrong / len(images)


def _farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference between two states."""
    return max(float((one[name] - other[name]).abs().max()) for name in other)


def _cost(job: Job) -> float:
    """Three forms; the split one costs the same multiply-adds and three times the time."""
    spec, recipe = Spec.from_dict(job.settings["spec"]), job.settings["recipe"]
    updates = recipe["epochs"] * recipe["epoch_steps"] * recipe["batch_size"]
    side = profile(job.settings["profile"]).resolution
    return 3.0 * (1 + 1 + 3) * updates * resnext.complexity(spec, side).multiply_adds


def _measure(precision: Precision) -> Measure:
    return Measure(
        id=f"forms-{precision}",
        home="forms",
        label=precision,
        settings=lambda study, seed: _settings(precision, study, seed),
        run=lambda bench: _run(precision, bench),
        row=NETWORK,
        cost=_cost,
    )


MEASURES = (_measure("float64"), _measure("float32"))


def _parts(findings: Findings) -> Sequence[Part]:
    return (
        *(_overlay(findings, one) for one in MEASURES),
        *_differences(findings),
        _table(findings),
    )


def _overlay(findings: Findings, measure: Measure) -> Chart:
    results = findings.results(measure)
    lines = [
        Line(
            label=f"{LETTERS[form]} {form}",
            x=tuple(range(1, len(losses) + 1)),
            y=tuple(losses),
            dashed=form != "grouped",
        )
        for result in results[:1]
        for form, losses in result["values"]["losses"].items()
    ]
    return Chart(
        name=f"forms-losses-{measure.label}",
        title=f"Training losses of the three forms in {measure.label}, seed 0",
        x="update",
        y="loss, nats",
        lines=tuple(lines),
        notes=() if results else ("Missing: not measured yet.",),
    )


def _differences(findings: Findings) -> tuple[Chart, ...]:
    lines = []
    for measure in MEASURES:
        for result in findings.results(measure)[:1]:
            losses = result["values"]["losses"]
            for form in FORMS[1:]:
                far = [abs(a - b) for a, b in zip(losses[form], losses["grouped"], strict=True)]
                lines.append(
                    Line(
                        label=f"{LETTERS[form]} against (c), {measure.label}",
                        x=tuple(range(1, len(far) + 1)),
                        y=tuple(one or None for one in far),
                        group=measure.label,
                        dashed=form == "split",
                    )
                )
    if not lines:
        return ()
    return (
        Chart(
            name="forms-differences",
            title="Difference of losses between forms, seed 0",
            x="update",
            y="difference, nats",
            lines=tuple(lines),
            log_y=True,
            notes=("Equal losses have no place on this axis and are left out.",),
        ),
    )


def _table(findings: Findings) -> Table:
    columns = (
        Column(title="precision"),
        Column(title="seed", digits=0),
        Column(title="form"),
        Column(title="validation error, %"),
        Column(title="last loss", digits=6),
        Column(title="largest difference of losses to (c)"),
        Column(title="of the first loss"),
        Column(title="of the final weights"),
        Column(title="commit"),
    )
    rows: list[tuple[Value, ...]] = []
    for measure in MEASURES:
        results = findings.results(measure)
        if not results:
            rows.append((measure.label, *[None] * 8))
        for result in results:
            rows += [_form_row(measure.label, result, form) for form in FORMS]
    demo = findings.study.choices.scale == "demo"
    what = "A small network of cardinality 8" if demo else NETWORK.label
    return Table(
        name="forms",
        title="Three forms, one initialisation, the same images in the same order",
        columns=columns,
        rows=tuple(rows),
        notes=(f"{what}, initialised in form (c) and converted, which rounds nothing.", _WHY),
    )


_WHY = "What differs is the order in which sums are rounded; training magnifies that."


def _form_row(precision: str, result: dict[str, Any], form: Form) -> tuple[Value, ...]:
    values = result["values"]

    def far(name: str) -> str | None:
        found = values[name].get(form)
        return None if found is None else f"{found:.1e}"

    return (
        precision,
        result["seed"],
        f"{LETTERS[form]} {form}",
        values["validation_error"][form],
        values["losses"][form][-1],
        *(
            "–" if form == "grouped" else far(name)
            for name in ("largest_difference", "first_difference", "weights_difference")
        ),
        short(result["commit"]),
    )


FORMS_EXPERIMENT = Experiment(
    id="forms",
    title="Fig. 3: three forms that are one function",
    source="Sec. 3.2, Fig. 3",
    measures=MEASURES,
    parts=_parts,
    data="images of 1000 classes (ImageNet)",
)

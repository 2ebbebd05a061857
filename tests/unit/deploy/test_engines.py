import sys

import pytest
import torch

from resnext.deploy import artifact_of_model, engines, libraries
from resnext.deploy.engines import choose, open_engine, timed
from resnext.deploy.graphs import network, onnx_of, quantised
from resnext.deploy.libraries import ENGINES, ENGINES_OF_GRAPHS, bf16_at_hand
from resnext.deploy.parity import in_batches, parity, reference, tolerance
from resnext.errors import ResourceError, UsageError
from unit.deploy.networks import images, settled

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

FLOATS = [
    (name, precision)
    for name, known in ENGINES.items()
    for precision in known
    if name != "compile" and precision != "int8"
]


@pytest.fixture(scope="module")
def small():
    return artifact_of_model(settled())


@pytest.fixture(scope="module")
def graph(small):
    return onnx_of(small, network(small))


def opened(small, graph, name, precision):
    if precision == "bf16" and not bf16_at_hand():
        pytest.skip("the processor has no bf16")
    if name in ENGINES_OF_GRAPHS:
        return ENGINES_OF_GRAPHS[name](graph, precision)
    return open_engine(small, name, precision)


@pytest.mark.parametrize(("name", "precision"), FLOATS)
def test_an_engine_computes_the_network_at_any_batch_and_size(small, graph, name, precision):
    engine = opened(small, graph, name, precision)
    assert (engine.name, engine.precision) == (name, precision)
    exact = reference(small)
    for count, side in ((1, 32), (2, 32), (7, 32), (3, 49)):
        batch = images(count, side)
        wanted, found = exact(batch), engine(batch)
        assert found.dtype == torch.float32
        difference = parity(wanted, found, side).relative
        assert difference <= tolerance(small, batch, wanted, precision)
        if precision == "bf16":  # else nothing was computed in bf16
            assert difference > tolerance(small, batch, wanted, "fp32")


def test_results_are_not_overwritten_by_the_next_call(small, graph):
    for name, precision in FLOATS:
        if precision == "fp32":
            engine = opened(small, graph, name, precision)
            first = engine(images(2, seed=1))
            kept = first.clone()
            engine(images(2, seed=2))
            torch.testing.assert_close(first, kept, rtol=0, atol=0)


@pytest.mark.parametrize("name", ENGINES_OF_GRAPHS)
def test_int8_is_calibrated_and_close(small, graph, name):
    batch = images(32, seed=5)
    engine = ENGINES_OF_GRAPHS[name](quantised(graph, batch), "int8")
    found = parity(reference(small)(batch), in_batches(engine, batch), 32)
    # bytes have 256 steps: measured at most 3.0e-2 of the largest logit in both libraries
    assert 1e-3 < found.relative < 0.3
    assert found.agreement > 0.9


def test_the_graph_in_int8_is_smaller_and_says_the_same(small, graph):
    made = quantised(graph, images(2))
    assert len(made) < 0.35 * len(graph)
    before, after = (
        {prop.key: prop.value for prop in onnx.load_from_string(file).metadata_props}
        for file in (graph, made)
    )
    assert before == after


def test_auto_takes_the_fastest_that_agrees(small, monkeypatch):
    slow = libraries.Running("onnxruntime", "fp32", _slowly(reference(small)))
    wrong = libraries.Running("openvino", "fp32", lambda batch: reference(small)(batch) * 1.01)
    monkeypatch.setitem(ENGINES_OF_GRAPHS, "onnxruntime", lambda *_: slow)
    monkeypatch.setitem(ENGINES_OF_GRAPHS, "openvino", lambda *_: wrong)
    monkeypatch.setattr(engines, "graph_of", lambda *_: b"graph")
    chosen = choose(small)
    assert chosen.engine.name == "torch"
    trials = {trial.name: trial for trial in chosen.trials}
    assert trials["onnxruntime"].seconds > trials["torch"].seconds
    assert trials["openvino"].seconds is None
    assert "differs by 1.0e-02 of the largest logit, more than" in str(chosen)


def _slowly(forward):
    import time

    def run(batch):
        time.sleep(0.05)
        return forward(batch)

    return run


def test_auto_does_with_what_is_installed_and_says_what_is_not(small, monkeypatch):
    monkeypatch.setattr(libraries, "at_hand", lambda *names: not names)
    chosen = choose(small)
    assert chosen.engine.name == "torch"
    assert str(chosen).count("pip install 'resnext[export]'") == 2
    with pytest.raises(ResourceError, match="expected an engine for int8 here, found none"):
        choose(small, "int8", calibration=images(2))


def test_no_numbers_never_agree(small, monkeypatch):
    nothing = libraries.Running(
        "torch", "fp32", lambda batch: torch.full((len(batch), 4), torch.nan)
    )
    monkeypatch.setattr(engines, "open_library", lambda *_: nothing)
    with pytest.raises(ResourceError, match="differs by inf"):
        choose(small, names=("torch",))


def test_slow_engines_are_timed_once(monkeypatch):
    taken = {"fast": iter([5, 9, 1, 1, 9]), "near": iter([6, 2, 2, 2, 2]), "slow": iter([7])}
    ready = {name: _Named(name) for name in taken}
    monkeypatch.setattr(engines, "_seconds", lambda engine, _: next(taken[engine.name]))
    assert timed(ready, torch.zeros(1)) == {"fast": 5, "near": 2, "slow": 7}


class _Named:
    def __init__(self, name):
        self.name = name

    def __call__(self, batch):
        return batch


REFUSED = [
    (("abacus", "fp32"), UsageError, "expected an engine out of auto, torch"),
    (("torch", "int8"), UsageError, "expected precision fp32, bf16 for torch, found 'int8'; int8"),
    (("onnxruntime", "bf16"), UsageError, "bf16 is for torch, compile, openvino"),
    (("openvino", "fp64"), UsageError, "expected precision fp32, bf16, int8 for openvino, found"),
    (("openvino", "int8"), UsageError, "expected images to calibrate int8 by"),
    (("auto", "int8"), UsageError, "expected images to calibrate int8 by"),
    (("auto", "fp8"), UsageError, "expected precision fp32, bf16 or int8, found 'fp8'"),
]


@pytest.mark.parametrize(("words", "kind", "message"), REFUSED)
def test_what_cannot_be_had_is_refused_before_it_is_built(small, words, kind, message):
    with pytest.raises(kind, match=message):
        open_engine(small, *words)


def test_a_missing_library_is_named(small, monkeypatch):
    monkeypatch.setattr(libraries, "at_hand", lambda *names: "openvino" not in names)
    with pytest.raises(UsageError, match=r"expected resnext\[export\] to be installed for open"):
        open_engine(small, "openvino")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"expected resnext\[export\] to be installed, found"):
        open_engine(small, "onnxruntime")


def test_a_processor_without_bf16_is_said_to_have_none(small, monkeypatch):
    monkeypatch.setattr(libraries, "bf16_at_hand", lambda: False)
    with pytest.raises(ResourceError, match="expected a processor with bf16 arithmetic"):
        open_engine(small, "torch", "bf16")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_compiled_network_is_the_network(small, precision):
    engine = open_engine(small, "compile", precision)
    for count, side in ((1, 32), (2, 32), (7, 32), (3, 49)):
        batch = images(count, side)
        wanted = reference(small)(batch)
        found = parity(wanted, engine(batch), side)
        assert found.relative <= tolerance(small, batch, wanted, precision)


@pytest.mark.slow
def test_without_a_compiler_it_is_one_line(small, tmp_path, monkeypatch):
    import torch._inductor.config as settings

    torch.compiler.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing is compiled already
    nowhere = {"cpp.cxx": ("/nowhere/g++",), "fx_graph_cache": False}
    with (
        settings.patch(nowhere),
        pytest.raises(
            ResourceError, match=r"expected a compiler that inductor can use.*C\+\+"
        ) as raised,
    ):
        open_engine(small, "compile")
    assert "\n" not in str(raised.value)
    torch.compiler.reset()

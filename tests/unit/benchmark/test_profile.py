import pytest
import torch

import resnext
from resnext.benchmark.profile import kernels, profile_training
from resnext.benchmark.steps import Setting
from resnext.errors import UsageError

LOG = """\
onednn_verbose,v1,info,oneDNN v3.13.3
onednn_verbose,v1,primitive,create:cache_hit,cpu,convolution,ref:any,forward_training,src,,,,0.5
onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx512_core,forward_training,src,,g32,,15.5
onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx512_core,forward_training,src,,g32,,4.5
onednn_verbose,v1,primitive,exec,cpu,convolution,ref:any,backward_weights,src,,g32,,70
onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src,,,,10
something else,exec,1
"""


@pytest.fixture(autouse=True)
def same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def setting(batch, device="cpu"):
    return Setting(
        network=resnext.spec("resnext11_4x8d"),
        batch=batch,
        resolution=16,
        device=torch.device(device),
    )


def test_kernels_are_read_from_onednn_s_log_and_references_are_marked():
    assert kernels(LOG.splitlines()) == [
        ("convolution forward training: jit:avx512_core", 2, 20.0, False),
        ("convolution backward weights: ref:any", 1, 70.0, True),
        ("reorder: jit:uni", 1, 10.0, False),
    ]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
def test_a_step_of_ours_meets_no_reference_kernel(capfd):
    shares = profile_training(setting(16))
    for level in ("operation", "kernel"):
        found = [share for share in shares if share.level == level]
        assert sum(share.share for share in found) == pytest.approx(100)
        assert [s.milliseconds for s in found] == sorted(s.milliseconds for s in found)[::-1]
    names = {share.name for share in shares}
    assert "aten::convolution_backward" in names
    assert any(name.startswith("convolution backward weights: ") for name in names)
    assert not [share for share in shares if share.fallback]
    assert capfd.readouterr() == ("", "")  # nothing of what C's libraries say is left


def test_torch_s_own_fallback_is_found_on_few_images():
    shares = profile_training(setting(4))
    fallbacks = {share.name for share in shares if share.fallback}
    assert "aten::_slow_conv2d_forward" in fallbacks


def test_a_processor_is_profiled():
    with pytest.raises(UsageError, match="expected the processor to profile, found cuda"):
        profile_training(setting(4, "cuda"))

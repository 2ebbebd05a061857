"""Loaded by pytest (-p) before it collects timm's tests, which list what is registered by then."""

from resnext.model.timm_adapter import register_with_timm

# One of every kind: grouped bottleneck, basic, pre-activation, no shortcut, shortcut A, projection
# everywhere, small images, and blocks that follow a stem without normalisation.
NETWORKS = (
    "resnext50_32x4d",
    "resnet18",
    "preact_resnet50",
    "resnext50_32x4d_noshortcut",
    "resnet50_shortcuta",
    "resnet18_shortcutc",
    "resnext29_8x64d",
    "wrn28_10",
)


def pytest_configure() -> None:
    register_with_timm(NETWORKS)

"""From weights to use: one folder, predictions, engines, exported files, pages.

```python
artifact = save(artifact_of("runs/x"), "artifacts/x")
model = load("artifacts/x").model()
```
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnext.deploy.artifact import Artifact, load, save
    from resnext.deploy.origin import artifact_of, artifact_of_model, with_classes, with_score

__all__ = [
    "Artifact",
    "artifact_of",
    "artifact_of_model",
    "load",
    "save",
    "with_classes",
    "with_score",
]

_ORIGIN = ("artifact_of", "artifact_of_model", "with_classes", "with_score")


def __getattr__(attribute: str) -> Any:
    """Import what needs torch when it is first asked for; the page of `explore` does not."""
    if attribute not in __all__:
        raise AttributeError(f"module 'resnext.deploy' has no attribute {attribute!r}")
    file = "origin" if attribute in _ORIGIN else "artifact"
    return getattr(import_module(f"resnext.deploy.{file}"), attribute)

"""From weights to use: one folder, predictions, engines, exported files, pages.

```python
artifact = save(artifact_of("runs/x"), "artifacts/x")
model = load("artifacts/x").model()
```
"""

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

"""One run: a network, a recipe and a data set, and the folder that remembers them.

```python
decided = plan("digits", seed=1)
folder = decided.create()
for progress in train_run(decided, folder):
    print(progress)
*_, evaluation = evaluate_run(folder.path)
```
"""

from resnext.runs.folder import BadImage, DataRecord, EpochRecord, RunFolder, RunRecord, best
from resnext.runs.planning import Plan, plan
from resnext.runs.running import Evaluation, evaluate_run, load_model, train_run

__all__ = [
    "BadImage",
    "DataRecord",
    "EpochRecord",
    "Evaluation",
    "Plan",
    "RunFolder",
    "RunRecord",
    "best",
    "evaluate_run",
    "load_model",
    "plan",
    "train_run",
]

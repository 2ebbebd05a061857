"""One run: a network, a recipe and a data set, and the folder that remembers them.

```python
decided = plan("digits", seed=1)
folder = decided.create()
for progress in train_run(decided, folder):
    print(progress)
*_, evaluation = evaluate_run(folder.path)
```
"""

from resnext.runs.candidates import Candidate, candidate, load_model
from resnext.runs.comparison import Mix, Reread, compare
from resnext.runs.folder import RunFolder
from resnext.runs.planning import Plan, plan, plan_again
from resnext.runs.records import (
    BadImage,
    DataRecord,
    EpochRecord,
    RunRecord,
    StepRecord,
    best,
    differences,
)
from resnext.runs.running import Notice, train_run
from resnext.runs.scoring import Evaluation, Settings, evaluate_candidate, evaluate_run
from resnext.runs.signals import Stop, stopping
from resnext.runs.together import plan_together

__all__ = [
    "BadImage",
    "Candidate",
    "DataRecord",
    "EpochRecord",
    "Evaluation",
    "Mix",
    "Notice",
    "Plan",
    "Reread",
    "RunFolder",
    "RunRecord",
    "Settings",
    "StepRecord",
    "Stop",
    "best",
    "candidate",
    "compare",
    "differences",
    "evaluate_candidate",
    "evaluate_run",
    "load_model",
    "plan",
    "plan_again",
    "plan_together",
    "stopping",
    "train_run",
]

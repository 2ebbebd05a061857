"""Python loads this by itself: it prepares a process that torchrun starts, see `injector.py`.

RESNEXT_FAULTS holds a request of the injector; faults that kill or stop come in the first try only.
"""

import json
import os
import sys


class Finder:
    """Waits for the command line to be imported, then lets the injector prepare everything."""

    def find_spec(self, name, *_):
        if name == "resnext.cli.main":
            sys.meta_path.remove(self)
            import torch

            from faults.injector import FAULTS, prepare

            torch.set_num_threads(1)
            request = json.loads(os.environ["RESNEXT_FAULTS"])
            if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
                request = {k: v for k, v in request.items() if k not in FAULTS}
            prepare(request, int(os.environ["RANK"]))
        return


if "RANK" in os.environ and "RESNEXT_FAULTS" in os.environ:
    sys.meta_path.insert(0, Finder())

"""``python -m resnext``, the command line without an installed script."""

from resnext.cli.main import run

run()

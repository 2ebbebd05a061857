"""`python -m resnext.data.native` compiles the library for the package where it lies."""

import sys

from resnext.data.native.build import main

sys.exit(main())

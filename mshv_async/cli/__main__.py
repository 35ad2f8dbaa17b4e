"""Run the command line: ``python -m mshv_async.cli``."""

import sys

from mshv_async.cli import main

sys.exit(main())

"""`python -m jointdit`, as launchers of several processes need it."""

import sys

from .cli import main

sys.exit(main())

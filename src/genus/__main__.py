"""``python -m genus`` is ``genus``."""

import sys

from genus.cli.__main__ import main

sys.exit(main())

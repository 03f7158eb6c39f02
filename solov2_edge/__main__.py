"""``python -m solov2_edge`` is ``solov2-edge``."""

import sys

from solov2_edge.cli import main

if __name__ == "__main__":
    sys.exit(main())

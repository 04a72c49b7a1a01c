"""`python -m controller`: the controller of a cluster."""

import sys

from controller.cluster.main import main

if __name__ == "__main__":
    sys.exit(main())

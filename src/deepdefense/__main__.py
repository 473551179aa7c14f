"""`python -m deepdefense`: the command `deepdefense`, where its script is not in the path."""

import sys

from .command_line.main import main

if __name__ == "__main__":
    sys.exit(main())

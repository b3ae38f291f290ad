"""``python -m trio_stomp`` is the command line."""

import sys

from trio_stomp.cli import main

sys.exit(main())

"""`python -m rootstream_store.cli`, the same as `rootstream-store`."""

import sys

from rootstream_store.cli import main

sys.exit(main())

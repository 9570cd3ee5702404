from ..again import again
from ..events import test_snapshots as _same

globals().update(again(_same))

from ..again import again
from ..events import test_load_snapshots as _same

globals().update(again(_same))

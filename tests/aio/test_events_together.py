from ..again import again
from ..events import test_together as _same

globals().update(again(_same))

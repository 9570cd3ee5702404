from ..again import again
from ..events import test_read as _same

globals().update(again(_same))

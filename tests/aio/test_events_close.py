from ..again import again
from ..events import test_close as _same

globals().update(again(_same))

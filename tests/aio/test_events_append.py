from ..again import again
from ..events import test_append as _same

globals().update(again(_same))

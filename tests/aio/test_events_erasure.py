from ..again import again
from ..events import test_erasure as _same

globals().update(again(_same))

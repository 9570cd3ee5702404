from ..again import again
from ..viewers import test_viewers as _same

globals().update(again(_same))

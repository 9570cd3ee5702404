from ..again import again
from ..viewers import test_top as _same

globals().update(again(_same))

from .. import test_sessions as _same
from ..again import again

globals().update(again(_same))

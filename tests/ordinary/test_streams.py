from .. import test_streams as _same
from ..again import again

globals().update(again(_same))

from .. import test_recordings as _same
from ..again import again

globals().update(again(_same))

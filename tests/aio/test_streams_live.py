from .. import test_streams_live as _same
from ..again import again

globals().update(again(_same))

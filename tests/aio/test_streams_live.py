from .. import test_streams_live as _same
from .facade import again

globals().update(again(_same))

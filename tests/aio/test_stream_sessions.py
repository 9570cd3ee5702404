from .. import test_stream_sessions as _same
from .facade import again

globals().update(again(_same))

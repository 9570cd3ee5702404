from .. import test_streams as _same
from .facade import again

globals().update(again(_same))

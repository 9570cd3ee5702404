from .. import test_recordings as _same
from .facade import again

globals().update(again(_same))

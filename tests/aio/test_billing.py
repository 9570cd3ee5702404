from .. import test_billing as _same
from .facade import again

globals().update(again(_same))

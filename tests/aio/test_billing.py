from .. import test_billing as _same
from ..again import again

globals().update(again(_same))

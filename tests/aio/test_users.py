from .. import test_users as _same
from ..again import again

globals().update(again(_same))

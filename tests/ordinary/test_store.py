from .. import test_store as _same
from ..again import again

globals().update(again(_same))
# What is prepared on a connection can be out of date; here nothing is.
del globals()["test_a_column_whose_type_was_changed"]

"""What each kind of plugin owes, as test classes: derive one, name the plugin, and run pytest.

Their asserts are rewritten by pytest, as those of a test file are: so they count under ``python -O`` too, and
tell what they compared.
"""

import pkgutil

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))

"""A package that needs a module which is not there."""

import a_module_that_is_not_installed

DFS_API_VERSION = 1
SPEED = a_module_that_is_not_installed.SPEED

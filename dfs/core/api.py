"""What a plugin may see of dfs: it re-exports the seams and the vocabulary, and holds no code of its own."""

from dfs.core import limits as limits
from dfs.core.errors import *  # noqa: F403
from dfs.core.hookspec import DFS_API_VERSION as DFS_API_VERSION
from dfs.core.hookspec import hookimpl as hookimpl
from dfs.core.interface import *  # noqa: F403
from dfs.core.types import *  # noqa: F403

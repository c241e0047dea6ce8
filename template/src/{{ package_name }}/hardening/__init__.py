"""Production safety for an MCP server: everything an author needs of it is here.

This package belongs to the template: `copier update` brings fixes into it.
Leave it as it is, and build on these names; they change in a major release only.
"""

from . import errors
from .call import Context
from .context import Principal
from .declaration import tool
from .harden import harden
from .settings import HardeningSettings
from .transaction import connection

__all__ = ["Context", "HardeningSettings", "Principal", "connection", "errors", "harden", "tool"]

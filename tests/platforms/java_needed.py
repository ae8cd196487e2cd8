"""Where there is no Java this can not be imported, by which tests that need one skip themselves."""

from __future__ import annotations

import jpype

try:
    jpype.getDefaultJVMPath()
except jpype.JVMNotFoundException as error:
    raise ModuleNotFoundError("Java is not installed") from error

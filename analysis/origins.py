"""The check of `scaling.origins`, run from its file: a user's scaling.py may hide that package itself."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parent.parent / "scaling" / "origins.py"))

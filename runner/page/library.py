"""The charting library that each page has in it: Chart.js, MIT, the file of its npm package, unchanged.

It lies in the repository because a page has to work, and a run has to end, without a network. To update it: ``npm pack
chart.js@VERSION``, copy ``dist/chart.umd.min.js`` and ``LICENSE.md`` to ``assets/chartjs/``, and change the two values
below; the tests draw every kind of chart in a browser.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from deployment_toolkit.errors import DataError

VERSION = "4.6.1"
SHA256 = "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2"
ASSETS = Path(__file__).parent / "assets"
_FILE = ASSETS / "chartjs" / "chart.umd.min.js"


def charting_library() -> str:
    """Source of the library, without the reference to its source map. Raises DataError if the file isn't the pinned
    one."""
    try:
        content = _FILE.read_bytes()
    except OSError as error:
        raise DataError(f"{_FILE} can't be read ({error.strerror}): take it from the repository again") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"{_FILE} is not Chart.js {VERSION} as it was pinned: take it from the repository again")
    return content.decode().partition("\n//# sourceMappingURL=")[0]

#!/usr/bin/env python3
"""Writes earthquakes.json from the unpacked npm package.

    python3 trim_earthquakes.py VEGA_DATASETS [OUT]

VEGA_DATASETS is the `package` folder of vega-datasets 3.2.1; OUT is where the file goes, by default this script's folder.
No network.

Every earthquake is kept, in the order of the package, a line each. Of each only what the example reads is left, unchanged.
"""

import json
import sys
from pathlib import Path

KEPT = ["mag", "place", "time", "updated"]


def minified(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main(package, out):
    whole = json.loads(Path(package, "data", "earthquakes.json").read_text("utf-8"))
    features = [{"properties": {key: each["properties"][key] for key in KEPT}} for each in whole["features"]]
    lines = ",\n".join(minified(each) for each in features)
    text = f'{{"type":"FeatureCollection","metadata":{minified(whole["metadata"])},"features":[\n{lines}\n]}}\n'
    Path(out, "earthquakes.json").write_text(text, "utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else Path(__file__).parent)

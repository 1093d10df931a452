"""anchors.py: docs/security.md explains every kind of report: each text that the core reports is a heading there."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPORTING = r"va_fatal\((.*?)\);|define VA_FREED_ALREADY_LATE(.*?\")\n|va_report_hint\(&report, (.*?)\);|what\[\] = (.*?);"


def anchor(text):
    """As va_report_hint makes it."""
    return re.sub(r"[^a-z0-9-]", "", text.split(",")[0].lower().replace(" ", "-"))


page = (ROOT / "docs" / "security.md").read_text()
headings = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", page, re.M)}
texts = set()
for path in (ROOT / "c" / "src").glob("*/*.c"):
    for found in re.findall(REPORTING, path.read_text(), re.S):
        texts.update(text for text in re.findall(r'"([^"]*)"', "".join(found)) if " " in text.strip())
missing = sorted(text for text in texts if anchor(text) not in headings)
print(f"{len(texts)} texts of reports, {len(missing)} without a heading")
if missing or len(texts) < 10:
    sys.exit("\n".join(missing))

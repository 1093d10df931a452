"""heap_map.py HEAP_MAP: the example's picture is well-formed, and shows every block once."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

svg = subprocess.run([sys.argv[1]], capture_output=True, check=True, text=True).stdout
root = ElementTree.fromstring(svg)
name = "{http://www.w3.org/2000/svg}"
squares = [rect for rect in root.iter(name + "rect") if rect.find(name + "title") is not None]
title = root.find(name + "text").text
blocks, live = (int(re.search(pattern, svg)[1])
                for pattern in (r">server: (\d+) blocks of 64 KiB<", r"; (\d+) of \d+ slots live"))
places = {(rect.get("x"), rect.get("y")) for rect in squares}
whole = {}  # runs have a square for each block, and one title
for rect in squares:
    text = rect.find(name + "title").text
    whole[text.split(":")[0]] = int(re.search(r": (\d+) of", text)[1])
if not title or len(squares) != blocks or len(places) != blocks or sum(whole.values()) != live:
    sys.exit(f"{title}: {len(squares)} squares in {len(places)} places, {sum(whole.values())} live")
print(f"{blocks} blocks drawn, {live} live slots")

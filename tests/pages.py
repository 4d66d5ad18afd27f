"""Reports, read as a file and in a headless browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from pathlib import Path

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    # So that the page around the reports can look into them, and prints what they log.
    *("--allow-file-access-from-files", "--enable-logging=stderr"),
    *("--virtual-time-budget=20000", "--dump-dom"),
)
SHOW = """<!DOCTYPE html><meta charset="utf-8"/>%s<script>
const look = frame => {
  const page = frame.contentDocument, root = page.documentElement;
  const all = (selector, element = page) => [...element.querySelectorAll(selector)];
  const color = (selector, name) => all(selector).map(found => getComputedStyle(found)[name])[0];
  return {
    width: frame.contentWindow.innerWidth,
    title: page.title,
    scrolls: root.scrollWidth > root.clientWidth,
    wide: all("body :not(.scroll *, svg *), svg text").filter(found =>
      found.checkVisibility({ opacityProperty: true })
      && found.getBoundingClientRect().right > root.clientWidth).map(found => found.outerHTML),
    marks: all("figure").map(chart => all(".mark-rect.role-mark path", chart)
      .filter(mark => mark.getBoundingClientRect().width).length),
    background: color("body", "backgroundColor"),
    texts: [color("h1", "color"), color("svg text", "fill") || color("h1", "color")],
    requests: frame.contentWindow.performance.getEntriesByType("resource").map(({ name }) => name),
  };
};
onload = () => setTimeout(() => {
  document.body.textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(look));
}, 10000);
</script>"""


class Page:
    """A report, read without a browser.

    Attributes:
        charts: The data of each chart, by its name.
        text: All text.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        source = path.read_text(encoding="utf-8")
        [charts] = re.findall(r"^(\[.+\])\.forEach", source, re.MULTILINE) or ["[]"]
        self.charts: dict[str, list[dict[str, Any]]] = {
            chart["description"]: chart["datasets"]["rows"] for chart in json.loads(charts)
        }
        # The rest is XML, too, so that anything that is not escaped stands out.
        source = re.sub("<script>.+?</script>", "", source, flags=re.DOTALL)
        self.root = ET.fromstring(source)  # noqa: S314 - our own
        self.text = " ".join(" ".join(self.root.itertext()).split())

    def table(self, name: str) -> list[list[str]]:
        """Return the rows of a table, without its head."""
        (table,) = self.root.iterfind(f".//div[@aria-label='{name}']/table")
        return [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")][1:]


def look(pages: list[Page], scheme: str, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Show reports at two widths; return the findings on each, and the log of the browser."""
    frames = [
        f'<iframe src="{page.path.as_uri()}" width="{width}" height="900" style="border: 0">'
        "</iframe>"
        for page in pages
        for width in (1280, 390)
    ]
    (folder / "show.html").write_text(SHOW % "".join(frames))
    flags = (
        f"--user-data-dir={folder}",
        f"--blink-settings=preferredColorScheme={scheme == 'light':d}",
    )
    done = subprocess.run(
        [BROWSER, *FLAGS, *flags, (folder / "show.html").as_uri()],
        capture_output=True,
        check=True,
        text=True,
    )
    [seen] = re.findall(r"<body>(\[.+\])</body>", done.stdout)
    return json.loads(unescape(seen)), "\n".join(re.findall(".*CONSOLE.*", done.stderr))

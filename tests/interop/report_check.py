#!/usr/bin/env python3
"""Opens a report in headless Chromium: no error on the console, nothing from the network, and every view
of the loss shows its chart, in light and dark.

    octavo report RUN ... --out report.html
    python3 tests/interop/report_check.py report.html [screenshot.png]

Needs Debian's chromium. With a second argument, the page is also kept as a picture.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

# Looks at the page as a reader would, and leaves what it saw in the title.
PROBE = """
<script>
const seen = [];
for (const input of document.querySelectorAll('input[name=view]')) {
  input.checked = true;
  const view = document.querySelector('.' + input.id);
  const shown = [...document.querySelectorAll('.loss .scroll')].filter(e => e.offsetHeight > 0);
  const line = view.querySelector('path.line, circle.dot');
  seen.push(input.id + ':' + (shown.length == 1 && shown[0] == view && line.getBBox().width >= 0));
}
document.querySelector('input[name=view]').click();
const svg = document.querySelector('svg.chart');
const box = svg.getBoundingClientRect();
svg.dispatchEvent(new PointerEvent('pointermove',
  {clientX: box.left + box.width / 2, clientY: box.top + box.height / 2}));
seen.push('tip:' + /^step \\d+\\n.+  /.test(document.querySelector('.tip')?.textContent));
svg.dispatchEvent(new PointerEvent('pointerleave'));
seen.push('wide:' + (document.documentElement.scrollWidth <= innerWidth));
seen.push('dark:' + (DARK == matchMedia('(prefers-color-scheme: dark)').matches));
const [red] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
seen.push('paper:' + (DARK == (red < 64)));
seen.push('requests:' + (performance.getEntriesByType('resource').length == 0));
document.title = 'seen ' + seen.join(' ');
</script>
"""


def chromium(profile, *args):
    return subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--enable-logging=stderr", "--window-size=1040,1800", f"--user-data-dir={profile}", *args],
        capture_output=True, text=True, timeout=120)


def main():
    page = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        for theme, flags in (("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"])):
            probed = pathlib.Path(scratch) / "probed.html"
            probe = PROBE.replace("DARK", "true" if theme == "dark" else "false")
            probed.write_text(page.read_text().replace("</body>", probe + "</body>"))
            done = chromium(scratch + "/profile", *flags, "--dump-dom", probed.as_uri())
            console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
            assert not console, "\n".join(console)
            title = re.search(r"<title>seen (.*?)</title>", done.stdout)
            assert title, done.stderr[-2000:]
            wrong = [word for word in title.group(1).split() if not word.endswith(":true")]
            assert not wrong, f"{theme}: {wrong}"
            print(f"{theme}: {title.group(1)}")
        if len(sys.argv) > 2:
            chromium(scratch + "/profile", f"--screenshot={pathlib.Path(sys.argv[2]).resolve()}",
                     page.as_uri())


if __name__ == "__main__":
    main()
